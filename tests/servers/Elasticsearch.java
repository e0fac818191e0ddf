import java.lang.reflect.Constructor;
import java.nio.file.Path;
import java.util.Map;
import java.util.Set;

/**
 * Elasticsearch's core as a program: {@code Elasticsearch HOME STATE}, where STATE holds config/elasticsearch.yml. Its
 * own start-up class is not published as one that runs without the whole distribution. By reflection, since its
 * classes are of a later Java than the compiler of the distribution knows, and the constructor of a node is not public.
 */
public class Elasticsearch {
    public static void main(String[] args) throws Exception {
        Path home = Path.of(args[0]), state = Path.of(args[1]);
        System.setProperty("es.logs.base_path", state.resolve("logs").toString());
        System.setProperty("es.logs.cluster_name", "tests");
        call("org.elasticsearch.common.logging.LogConfigurator", "configureESLogging");
        Object builder = call("org.elasticsearch.common.settings.Settings", "builder");
        builder.getClass().getMethod("loadFromPath", Path.class).invoke(builder, state.resolve("config/elasticsearch.yml"));
        put(builder, "path.home", home);
        put(builder, "path.data", state.resolve("data"));
        put(builder, "path.logs", state.resolve("logs"));
        Object settings = builder.getClass().getMethod("build").invoke(builder);
        Class<?> environmentClass = Class.forName("org.elasticsearch.env.Environment");
        Object environment = environmentClass.getConstructor(settings.getClass(), Path.class)
            .newInstance(settings, state.resolve("config"));

        Class<?> loaderClass = Class.forName("org.elasticsearch.plugins.PluginsLoader");
        Object modules = loaderClass.getMethod("loadModulesBundles", Path.class, boolean.class)
            .invoke(null, home.resolve("modules"), true);
        Object loader = loaderClass.getMethod("createPluginsLoader", Set.class, Set.class, Map.class, boolean.class)
            .invoke(null, modules, Set.of(), Map.of(), false);
        Constructor<?> made = Class.forName("org.elasticsearch.node.Node")
            .getConstructor(environmentClass, loaderClass);
        Object node = made.newInstance(environment, loader);
        node.getClass().getMethod("start").invoke(node);
        Thread.currentThread().join();
    }

    private static Object call(String type, String name) throws Exception {
        return Class.forName(type).getMethod(name).invoke(null);
    }

    private static void put(Object builder, String name, Path value) throws Exception {
        builder.getClass().getMethod("put", String.class, String.class).invoke(builder, name, value.toString());
    }
}
