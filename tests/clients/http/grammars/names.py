"""What the vendor's own grammars find in queries: for each line of FILE, a query as JSON, a line with what each version
of the grammar says: the names where indices stand, or null where it takes the query for none.
"""

import importlib
import json
import pkgutil
import sys

import antlr4
from antlr4.error.ErrorListener import ErrorListener

import esql._antlr

# What reads something else than the indices that it names.
FURTHER = {"enrichPolicyName", "promqlCommand", "externalCommand", "eqlCommand", "explainCommand"}
ESCAPES = {"t": "\t", "n": "\n", "r": "\r", '"': '"', "\\": "\\"}


class Strict(ErrorListener):
    def syntaxError(self, recognizer, symbol, line, column, message, error):
        raise SyntaxError(message)


def unquoted(text):
    if text.startswith('"""'):
        return text[3:-3]
    if not text.startswith('"'):
        return text
    said, rest = "", iter(text[1:-1])
    for char in rest:
        said += ESCAPES[next(rest)] if char == "\\" else char
    return said


def names(tree, rules):
    """Of the whole tree, without recursion: queries nest."""
    found, left = [], [tree]
    while left:
        node = left.pop()
        if not isinstance(node, antlr4.ParserRuleContext):
            continue
        rule = rules[node.getRuleIndex()]
        if rule in ("indexPattern", "promqlIndexPattern"):
            found += [name.strip() for name in unquoted(node.getText()).split(",")]
        elif rule in FURTHER:
            found.append(f"{rule} {node.getText()}")
        left.extend(node.getChildren())
    return sorted(set(found))


class Version:
    def __init__(self, name):
        def of(what):
            return getattr(importlib.import_module(f"esql._antlr.{name}.{what}"), what)

        self.lexer, self.parser = of("EsqlBaseLexer"), of("EsqlBaseParser")

    def names(self, text):
        lexer = self.lexer(antlr4.InputStream(text))
        parser = self.parser(antlr4.CommonTokenStream(lexer))
        for one in (lexer, parser):
            one.removeErrorListeners()
            one.addErrorListener(Strict())
            # As it is released.
            one.setEsqlConfig({})
        start = getattr(parser, "statements", None) or parser.singleStatement
        try:
            return names(start(), parser.ruleNames)
        except (SyntaxError, IndexError):
            # Its lexer fails on a bracket that closes nothing.
            return None


def main():
    found = [module.name for module in pkgutil.iter_modules(esql._antlr.__path__)]
    versions = {name: Version(name) for name in found if name.startswith("v")}
    with open(sys.argv[1], encoding="utf-8") as lines:
        for line in lines:
            text = json.loads(line)
            print(json.dumps({name: version.names(text) for name, version in versions.items()}))


main()
