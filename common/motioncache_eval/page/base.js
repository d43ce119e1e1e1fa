"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const element = (name, properties) => Object.assign(document.createElement(name), properties);

/* Tables that are wider than the screen say so. */
function hintScroll() {
  for (const table of document.querySelectorAll(".scroll")) {
    table.classList.toggle("wide", table.scrollWidth > table.clientWidth);
  }
}

new ResizeObserver(hintScroll).observe(document.body);
