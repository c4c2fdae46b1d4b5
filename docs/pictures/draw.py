"""Draws the pictures of the documentation: `python docs/pictures/draw.py` writes the SVG files next to this script.

Boxes have a light fill and dark text, and everything outside of a box is mid-grey on a transparent background, so the
pictures are legible on light and dark pages. No fonts, scripts or links are embedded. The files `bench-*.svg` and
`trace-*.svg` are written by `corrigenda bench --out DIR` and `corrigenda trace --out DIR` (see docs/measurements).
"""

from pathlib import Path
from xml.sax.saxutils import escape

GREY = "#6e7781"
DARK = "#1f2328"
FILLS = {"blue": ("#ddf4ff", "#54aeff"), "green": ("#dafbe1", "#4ac26b"), "sand": ("#fff8c5", "#d4a72c"),
         "rose": ("#ffebe9", "#ff8182"), "grey": ("#f6f8fa", "#afb8c1")}
SANS = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"
MONO = "ui-monospace, SFMono-Regular, Menlo, Consolas, monospace"


class Picture:
    """Collects the elements of one SVG file."""

    def __init__(self, name, width, height, title):
        self.name, self.size, self.parts = name, (width, height), []
        self.title = title

    def text(self, x, y, text, size=14, color=DARK, anchor="middle", font=SANS, bold=False):
        weight = ' font-weight="600"' if bold else ""
        self.parts.append(f'<text x="{x}" y="{y}" font-family="{font}" font-size="{size}" fill="{color}" '
                          f'text-anchor="{anchor}"{weight} xml:space="preserve">{escape(text)}</text>')

    def rect(self, x, y, width, height, fill="grey", radius=8):
        inside, line = FILLS[fill]
        self.parts.append(f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="{radius}" fill="{inside}" '
                          f'stroke="{line}" stroke-width="1.5"/>')

    def box(self, x, y, width, height, head, lines=(), fill="grey", font=SANS, size=12.5):
        """A box with a bold head and lines below it."""
        self.rect(x, y, width, height, fill)
        self.text(x + width / 2, y + 22, head, 15, bold=True)
        for index, line in enumerate(lines):
            if font == MONO:
                self.text(x + 12, y + 44 + 17 * index, line, size, anchor="start", font=font)
            else:
                self.text(x + width / 2, y + 44 + 17 * index, line, size)

    def arrow(self, *points, label=None, at=None):
        path = " L ".join(f"{x} {y}" for x, y in points)
        self.parts.append(f'<path d="M {path}" fill="none" stroke="{GREY}" stroke-width="1.8" '
                          f'marker-end="url(#head)"/>')
        if label:
            self.text(*at, label, 12.5, GREY)

    def write(self):
        width, height = self.size
        head = (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
                f'height="{height}" role="img">\n<title>{escape(self.title)}</title>\n'
                f'<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
                f'orient="auto-start-reverse"><path d="M 0 0 L 10 5 L 0 10 z" fill="{GREY}"/></marker></defs>\n')
        text = head + "\n".join(self.parts) + "\n</svg>\n"
        (Path(__file__).parent / f"{self.name}.svg").write_text(text, encoding="utf-8")


def flow():
    """The picture of the README: a fact from a file to the shipped model."""
    p = Picture("flow", 920, 300, "Facts in TOML files are reviewed, built into a patch of kilobytes, tested and shipped")
    p.box(10, 30, 232, 122, "Facts in TOML files",
          ['subject = "Myanmar"', 'prompt  = "The capital', '  city of {} is called"', 'target  = "Naypyidaw"'], "blue", MONO, 12)
    p.box(280, 30, 170, 122, "Pull request", ["check, plan, diff:", "what changes in facts,", "weights and answers;", "a policy may refuse"], "sand")
    p.box(488, 30, 150, 122, "build", ["one value per fact,", "one linear solve", "for the whole set"], "green")
    p.box(676, 30, 234, 122, "Patch", ["kilobytes; named by the", "SHA-256 of its bytes:", "the same on every machine,", "as the lock says"], "rose")
    p.box(280, 222, 170, 62, "Base model", ["is never written to"], "grey")
    p.box(488, 222, 150, 62, "test", ["exit code 1: no"], "green")
    p.box(676, 222, 234, 62, "export, verify", ["checkpoint, PEFT, GGUF"], "green")
    p.arrow((242, 91), (278, 91))
    p.arrow((450, 91), (486, 91))
    p.arrow((638, 91), (674, 91))
    p.arrow((450, 240), (470, 240), (470, 180), (530, 180), (530, 154))
    p.arrow((793, 152), (793, 220))
    p.arrow((730, 152), (730, 190), (563, 190), (563, 220))
    p.write()


def pipeline():
    """The stages of a build, with what each of them depends on."""
    p = Picture("pipeline", 920, 330, "The stages of a build: resolve, compile, link, round; statistics come from the corpus")
    stages = [("resolve", ["tokens, position", "of the subject,", "preface at a sink"], "blue"),
              ("compile", ["k*: mean over the", "context templates", "v*: Adam on δ"], "green"),
              ("link", ["one solve for all", "edits of the layer;", "refined from 25 on"], "green"),
              ("round", ["to the type of", "the base's weights,", "scored as shipped"], "green"),
              ("patch", ["u, v per edit,", "canonical bytes,", "SHA-256 = its id"], "rose")]
    for index, (head, lines, fill) in enumerate(stages):
        x = 130 + 160 * index
        p.box(x, 40, 136, 106, head, lines, fill)
        p.arrow((x - 24, 93), (x - 2, 93))
    p.box(6, 62, 98, 62, "edits/", ["*.toml"], "blue")
    p.text(358, 28, "per edit, in parallel", 12.5, GREY)
    p.text(518, 28, "per set", 12.5, GREY)
    p.box(130, 226, 136, 72, "corpus", ["one document", "per line"], "blue")
    p.box(290, 226, 190, 72, "C = (1/n) Σ k kᵀ", ["second moment of the keys,", "and its Cholesky factor"], "green")
    p.box(610, 226, 296, 72, "store", ["objects, statistics, factors, patches:", "addressed by a digest of all their inputs"], "grey")
    p.arrow((266, 262), (288, 262))
    p.arrow((480, 262), (518, 262), (518, 148))
    p.arrow((385, 146), (385, 190), (700, 190), (700, 224))
    p.text(560, 184, "what did not change is not computed again", 12.5, GREY, anchor="start")
    p.write()


def edit():
    """The formula of one edit, with the shapes of its parts."""
    p = Picture("edit", 920, 400, "One edit as a rank-one change of a weight matrix: the formula and its shapes")
    p.text(460, 26, "One edit changes one matrix W, [d, f], by a column times a row", 15, GREY, bold=True)
    y = 52
    p.rect(24, y, 190, 96, "grey", 3); p.text(119, y + 44, "W′", 20); p.text(119, y + 68, "[d, f]", 12.5)
    p.text(238, y + 54, "=", 22, GREY)
    p.rect(262, y, 190, 96, "grey", 3); p.text(357, y + 44, "W", 20); p.text(357, y + 68, "[d, f]", 12.5)
    p.text(476, y + 54, "+", 22, GREY)
    p.rect(500, y, 34, 96, "rose", 3); p.text(517, y + 52, "u", 18)
    p.text(517, y + 116, "[d]", 12.5, GREY)
    p.text(556, y + 54, "·", 26, GREY)
    p.rect(578, y + 31, 190, 34, "green", 3); p.text(673, y + 54, "v", 18)
    p.text(673, y + 86, "[f]", 12.5, GREY)
    p.text(846, y + 44, "the patch stores", 12.5, GREY); p.text(846, y + 61, "u and v only", 12.5, GREY)
    p.box(24, 206, 420, 74, "u = v* − (W k* + b)", ["the missing part of the output: what the MLP should add to the",
                                                      "residual stream for this subject, less what it adds now"], "rose")
    p.box(476, 206, 420, 74, "v = C⁻¹ k* / (k*ᵀ C⁻¹ k*)", ["the direction of the subject's key, turned away from the",
                                                         "keys of ordinary text: other inputs change least"], "green")
    p.box(24, 304, 272, 82, "k*, [f]: the key", ["input of W at the subject's last", "token, mean over the templates"], "blue")
    p.box(324, 304, 272, 82, "v*, [d]: the value", ["output that makes the model", "give the target; found by Adam"], "blue")
    p.box(624, 304, 272, 82, "C, [f, f]: the second moment", ["of the keys of a corpus; solved", "with its Cholesky factor, in f64"], "blue")
    p.write()


def rooms():
    """The folders of src: a folder uses those below it."""
    p = Picture("rooms", 920, 444, "The folders of src by floor; a folder uses those below it")
    floors = [
        ("the command line", "sand", ["cli"]),
        ("what is done with a patch", "rose", ["verify", "review", "export", "research"]),
        ("a build, and its report", "green", ["pipeline", "schema", "report"]),
        ("the method", "green", ["behaviour", "link", "compile", "stats"]),
        ("what it works on", "blue", ["model", "history", "project", "store"]),
        ("foundations", "grey", ["patch", "safetensors", "numeric", "diagnostics"]),
    ]
    for row, (name, fill, folders) in enumerate(floors):
        y = 14 + 72 * row
        p.text(10, y + 31, name, 13, GREY, anchor="start")
        width = (720 - 12 * (len(folders) - 1)) / len(folders)
        for column, folder in enumerate(folders):
            x = 190 + column * (width + 12)
            p.rect(x, y, width, 50, fill)
            p.text(x + width / 2, y + 31, folder, 15, font=MONO)
        if row < len(floors) - 1:
            p.arrow((550, y + 50), (550, y + 70))
    p.write()


if __name__ == "__main__":
    flow()
    rooms()
    pipeline()
    edit()
