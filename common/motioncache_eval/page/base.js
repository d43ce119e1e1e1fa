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

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/* Chunk by denoise step: computed, partly computed, reused. Fills a canvas, or makes one. */
function drawMap(rows, label, canvas = element("canvas", { className: "map" })) {
  Object.assign(canvas, { width: Math.max(1, ...rows.map((row) => row.length)), height: rows.length });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", label);
  canvas.title = "a row for each chunk, a column for each denoise step";
  const context = canvas.getContext("2d");
  rows.forEach((row, y) => row.forEach((share, x) => {
    context.fillStyle = css(share === 1 ? "--computed" : share === 0 ? "--reused" : "--partial");
    context.fillRect(x, y, 1, 1);
  }));
  return canvas;
}

/* Within another page, the frame is as high as what it shows. */
if (window.frameElement) {
  new ResizeObserver(() => { window.frameElement.style.height = `${document.documentElement.offsetHeight}px`; }).observe(document.documentElement);
}
