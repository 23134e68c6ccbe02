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
    """The demo's title and picture, and a link to it."""
    title = app.env.titles[demo].astext()
    link = nodes.reference("", "", internal=True, classes=["card"],
                           refuri=app.builder.get_relative_uri(docname, demo))
    tree = app.env.get_doctree(demo)
    picture = next(tree.findall(nodes.image), None)
    if picture is not None:
        link += nodes.image(uri=picture["uri"], candidates={"*": picture["uri"]}, alt="")
    else:
        printed = next(node for node in tree.findall(nodes.literal_block)
                       if "output" in node.get("classes", []))
        link += nodes.literal_block("", "\n".join(printed.astext().splitlines()[:12]))
    link += nodes.inline("", title)
    paragraph = nodes.paragraph()
    paragraph += link
    return paragraph
