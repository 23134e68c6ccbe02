"""The directive `gallery`: a card for each demo, with the first figure that the demo drew."""

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

FOLDER = "made/questions/"


class Cards(nodes.General, nodes.Element):
    """Where the cards go, once every demo has run."""


class Gallery(SphinxDirective):
    """`{gallery}`, without arguments."""

    def run(self) -> list:
        return [Cards()]


def add_to(app) -> None:
    """Tell Sphinx of the directive."""
    app.add_node(Cards)
    app.add_directive("gallery", Gallery)
    app.connect("doctree-resolved", fill)


def fill(app, doctree, docname: str) -> None:
    """Put the cards where the directive stood."""
    for place in doctree.findall(Cards):
        demos = sorted(name for name in app.env.all_docs if name.startswith(FOLDER))
        cards = nodes.container(classes=["cards"])
        cards += [card(app, demo, docname) for demo in demos]
        place.replace_self(cards)


def card(app, demo: str, docname: str) -> nodes.Element:
    """The demo's first picture, or what it prints first where it draws none, above its title."""
    tree = app.env.get_doctree(demo)
    picture = next(tree.findall(nodes.image), None)
    if picture is not None:
        shown = nodes.image(uri=picture["uri"], candidates={"*": picture["uri"]}, alt="")
    else:
        printed = next(node for node in tree.findall(nodes.container)
                       if "cell_output" in node.get("classes", []))
        shown = nodes.literal_block("", printed.astext().strip())
    link = nodes.reference("", app.env.titles[demo].astext(), internal=True,
                           refuri=app.builder.get_relative_uri(docname, demo))
    return nodes.container("", shown, nodes.paragraph("", "", link), classes=["card"])
