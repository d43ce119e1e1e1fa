"use strict";
/* Follows one video: asks the server how far it is, and plays the chunks that are done, in order and over again. */
const byId = (id) => document.getElementById(id);
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const entry = location.pathname.split("/").pop();
const video = byId("video");
let parts = [], playing = -1;

function play(index) {
  playing = index;
  video.src = `../runs/${entry}/${parts[index]}`;
  byId("watching").textContent = `chunk ${index + 1}; ${parts.length} done`;
  video.play().catch(() => { video.controls = true; });
}

video.addEventListener("ended", () => play((playing + 1) % parts.length));

function draw(rows) {
  const map = byId("map"), steps = Math.max(1, ...rows.map((row) => row.length));
  map.hidden = !rows.length;
  if (!rows.length) return;
  map.width = steps;
  map.height = rows.length;
  map.style.height = `${Math.min(12, rows.length) * 0.9}rem`;
  const context = map.getContext("2d");
  rows.forEach((row, y) => row.forEach((share, x) => {
    context.fillStyle = css(share === 1 ? "--computed" : share === 0 ? "--reused" : "--partial");
    context.fillRect(x, y, 1, 1);
  }));
}

async function follow() {
  const answer = await fetch(`../progress/${entry}`);
  if (answer.ok) {
    const now = await answer.json();
    parts = now.parts;
    if (playing < 0 && parts.length) play(0);
    byId("bar").value = now.share;
    const left = now.seconds_left === null ? "" : `, about ${Math.ceil(now.seconds_left)} s left`;
    byId("left").textContent = `${Math.round(100 * now.share)} % after ${now.seconds.toFixed(0)} s${left}`;
    draw(now.decisions);
  } else {
    byId("left").textContent = "This video is not being made any more: it is in the history.";
    return;
  }
  setTimeout(follow, 500);
}

follow();
