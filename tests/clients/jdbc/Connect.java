// Logs in by the address that is the first argument and the password that is the second, and says the two answers to
// the question that is the third. The options behind are in the words of Properties: NAME=VALUE.

import java.sql.*;
import java.util.Properties;

public class Connect {
    public static void main(String[] words) throws Exception {
        Properties properties = new Properties();
        properties.put("password", words[1]);
        for (int i = 3; i < words.length; i++) {
            String[] option = words[i].split("=", 2);
            properties.put(option[0], option[1]);
        }
        try (Connection connection = DriverManager.getConnection(words[0], properties);
                Statement statement = connection.createStatement();
                ResultSet set = statement.executeQuery(words[2])) {
            set.next();
            System.out.println(set.getString(1) + " " + set.getString(2));
        }
    }
}
