"use strict";
/* In place of Sphinx's script, which puts what was searched for into spans, and so breaks formulas and pictures. */
const SPHINX_HIGHLIGHT_ENABLED = false;
