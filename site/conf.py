"""Sphinx's settings. scripts/make_site.py fills the source folder and starts it: `make site`."""

from docutils import nodes
from latex2mathml.converter import convert

import aacn_lib

project = "Attention inside CNNs"
version = release = aacn_lib.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.githubpages", "sphinx.ext.napoleon"]
exclude_patterns = ["README.md"]  # parts of it stand in other pages

# The outputs stored in the lessons are executed ones: `make notebooks` refreshes them.
nb_execution_mode = "off"
# An explorer is text/html with its still picture beside it: the page has scripts, so the live one is shown.
nb_mime_priority_overrides = [("html", "text/html", 0)]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

smartquotes_action = "D"  # dashes only, between a parameter and its meaning: quotes stay what the lesson wrote

default_role = "py:obj"  # `name` in a docstring is code, and a link where the name is known
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_use_ivar = True
python_maximum_signature_line_length = 88
add_module_names = False
toc_object_entries_show_parents = "hide"

html_theme = "furo"  # light, dark and narrow; scripts and styles of its own, nothing from elsewhere
html_title = project
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_favicon = "_static/favicon.svg"
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_math_renderer = "mathml"
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0b63b5", "color-brand-content": "#0b63b5"},
    "dark_css_variables": {"color-brand-primary": "#6cb3ff", "color-brand-content": "#6cb3ff"},
}


def inline_formula(translator, node):
    translator.body.append(convert(node.astext()))
    raise nodes.SkipNode


def formula(translator, node):
    translator.body.append(f'<div class="math">{convert(node.astext(), display="block")}</div>\n')
    raise nodes.SkipNode


def setup(app):
    # Browsers draw MathML by themselves; MathJax would come from the network.
    app.add_html_math_renderer("mathml", (inline_formula, None), (formula, None))
