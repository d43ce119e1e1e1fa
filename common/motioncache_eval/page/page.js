"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const state = { frame: 0, frames: 1, playing: false, overlay: "none", players: [], prompt: "", shown: new Set() };

const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/* One method's video: draws a frame of its sprite sheet, and a map over it. */
class Player {
  constructor(name, view) {
    this.view = view;
    this.figure = document.createElement("figure");
    this.figure.dataset.method = name;
    const caption = document.createElement("figcaption");
    const title = document.createElement("strong");
    title.textContent = name;
    caption.append(title, view.caption ? ` ${view.caption}` : "");
    if (view.error) {
      const told = document.createElement("p");
      told.className = "error";
      told.textContent = view.error;
      this.figure.append(told, caption);
      return;
    }
    this.canvas = document.createElement("canvas");
    this.canvas.width = view.width;
    this.canvas.height = view.height;
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", `video of ${name}`);
    this.figure.append(this.canvas);
    if (view.decisions.length) this.figure.append(this.drawMap(name));
    this.figure.append(caption);
    this.maps = {};
    for (const key of ["reused", "weight"]) if (view[key]) this.maps[key] = bytes(view[key]);
    this.image = new Image();
    this.ready = new Promise((resolve, reject) => { this.image.onload = resolve; this.image.onerror = reject; });
    this.image.src = view.sprite;
  }

  get frames() { return this.view.error ? 0 : this.view.frames; }

  draw(frame, overlay) {
    if (this.view.error || !this.image.complete) return;
    const { width, height, columns, frames } = this.view;
    const shown = Math.min(frame, frames - 1);
    const context = this.canvas.getContext("2d");
    const left = (shown % columns) * width, top = Math.floor(shown / columns) * height;
    context.drawImage(this.image, left, top, width, height, 0, 0, width, height);
    this.canvas.dataset.frame = shown;
    this.canvas.dataset.overlay = overlay;
    if (this.maps[overlay]) this.lay(context, this.maps[overlay], shown);
  }

  /* Latent frames are counted from the end, of four frames each: a first one may stand for a single frame. */
  lay(context, map, frame) {
    const [latents, rows, columns] = this.view.grid;
    const latent = latents - 1 - Math.floor((this.view.frames - 1 - frame) / 4);
    if (latent < 0) return;
    const cellWidth = this.canvas.width / columns, cellHeight = this.canvas.height / rows;
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        const value = map[(latent * rows + row) * columns + column] / 255;
        context.fillStyle = `rgba(255, ${Math.round(190 * (1 - value))}, 0, ${0.75 * value})`;
        context.fillRect(column * cellWidth, row * cellHeight, cellWidth, cellHeight);
      }
    }
  }

  /* Chunk by denoise step: computed, partly computed, reused. */
  drawMap(name) {
    const rows = this.view.decisions, steps = Math.max(...rows.map((row) => row.length));
    const canvas = document.createElement("canvas");
    canvas.className = "map";
    canvas.width = steps;
    canvas.height = rows.length;
    const all = rows.flat(), mean = all.reduce((a, b) => a + b, 0) / all.length;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `decisions of ${name}, a row for each chunk: ${Math.round(100 * mean)} % computed`);
    canvas.title = "a row for each chunk, a column for each denoise step";
    const context = canvas.getContext("2d");
    rows.forEach((row, y) => row.forEach((share, x) => {
      context.fillStyle = css(share === 1 ? "--computed" : share === 0 ? "--reused" : "--partial");
      context.fillRect(x, y, 1, 1);
    }));
    return canvas;
  }
}

function draw() {
  byId("frame").value = state.frame;
  byId("frame-number").value = `${state.frame + 1} of ${state.frames}`;
  for (const player of state.players) player.draw(state.frame, state.overlay);
}

function choose(prompt) {
  state.prompt = prompt;
  const views = Object.entries(data.videos[prompt] || {}).filter(([name]) => state.shown.has(name));
  state.players = views.map(([name, view]) => new Player(name, view));
  byId("players").replaceChildren(...state.players.map((player) => player.figure));
  state.frames = Math.max(1, ...state.players.map((player) => player.frames));
  state.frame = Math.min(state.frame, state.frames - 1);
  byId("frame").max = state.frames - 1;
  for (const player of state.players) if (player.ready) player.ready.then(draw);
  draw();
}

/* A tick box for each method, where there are more than the few that are shown at first. */
function offerMethods() {
  const names = [...new Set(Object.values(data.videos).flatMap((views) => Object.keys(views)))];
  state.shown = new Set(data.chosen.length ? data.chosen : names);
  byId("choice").hidden = state.shown.size === names.length;
  byId("methods").append(...names.map((name) => {
    const label = document.createElement("label"), box = document.createElement("input");
    box.type = "checkbox";
    box.value = name;
    box.checked = state.shown.has(name);
    label.append(box, ` ${name}`);
    return label;
  }));
  byId("methods").addEventListener("change", ({ target }) => {
    if (target.checked) state.shown.add(target.value);
    else state.shown.delete(target.value);
    choose(state.prompt);
  });
}

function play(on) {
  state.playing = on;
  byId("play").textContent = on ? "Pause" : "Play";
  byId("play").setAttribute("aria-pressed", String(on));
  if (on) requestAnimationFrame((now) => advance(now, state.frame));
}

function advance(started, first) {
  const rate = state.players.find((player) => player.frames)?.view.fps || 24;
  const step = (now) => {
    if (!state.playing) return;
    const frame = (first + Math.floor((now - started) / 1000 * rate)) % state.frames;
    if (frame !== state.frame) { state.frame = frame; draw(); }
    requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
}

function seek(frame) {
  play(false);
  state.frame = Math.min(Math.max(frame, 0), state.frames - 1);
  draw();
}

function lay(overlay) {
  state.overlay = overlay;
  document.querySelector(`input[name=overlay][value=${overlay}]`).checked = true;
  draw();
}

/* Quality over cost, a line for each family of methods. */
function drawCurve(points) {
  if (!points.length) return;
  byId("curve-section").hidden = false;
  const width = 640, height = 340, left = 52, bottom = 40, right = 16, top = 12;
  const colours = ["#1f77b4", "#d1495b", "#2a9d62", "#b07aa1", "#c9801a", "#3aa6a6", "#8c6d4f", "#7a7a7a"];
  const costs = points.map((p) => p.cost), lows = points.map((p) => p.low), highs = points.map((p) => p.high);
  const range = (a, b) => [a - 0.06 * (b - a || 1), b + 0.06 * (b - a || 1)];
  const [x0, x1] = range(Math.min(...costs), Math.max(...costs)), [y0, y1] = range(Math.min(...lows), Math.max(...highs));
  const x = (v) => left + (v - x0) / (x1 - x0) * (width - left - right);
  const y = (v) => height - bottom - (v - y0) / (y1 - y0) * (height - bottom - top);
  const parts = [];
  for (let i = 0; i <= 4; i++) {
    const cx = x0 + (x1 - x0) * i / 4, cy = y0 + (y1 - y0) * i / 4;
    parts.push(`<line class="axis" x1="${x(cx)}" x2="${x(cx)}" y1="${top}" y2="${height - bottom}"/>`);
    parts.push(`<line class="axis" x1="${left}" x2="${width - right}" y1="${y(cy)}" y2="${y(cy)}"/>`);
    parts.push(`<text x="${x(cx)}" y="${height - bottom + 16}" text-anchor="middle">${cx.toPrecision(3)}</text>`);
    parts.push(`<text x="${left - 6}" y="${y(cy) + 4}" text-anchor="end">${cy.toFixed(1)}</text>`);
  }
  parts.push(`<text x="${(left + width) / 2}" y="${height - 6}" text-anchor="middle">TFLOPs per video, counted</text>`);
  parts.push(`<text transform="translate(12 ${height / 2}) rotate(-90)" text-anchor="middle">PSNR, dB</text>`);
  const families = [...new Set(points.map((p) => p.family))];
  families.forEach((family, i) => {
    const own = points.filter((p) => p.family === family).sort((a, b) => a.cost - b.cost);
    const colour = colours[i % colours.length];
    parts.push(`<polyline fill="none" stroke="${colour}" stroke-width="1.5" points="${own.map((p) => `${x(p.cost)},${y(p.quality)}`).join(" ")}"/>`);
    for (const p of own) {
      parts.push(`<line stroke="${colour}" x1="${x(p.cost)}" x2="${x(p.cost)}" y1="${y(p.low)}" y2="${y(p.high)}"/>`);
      parts.push(`<circle fill="${colour}" cx="${x(p.cost)}" cy="${y(p.quality)}" r="4"/>`);
    }
  });
  const legend = document.createElement("ul");
  legend.className = "legend";
  families.forEach((family, i) => {
    const item = document.createElement("li"), mark = document.createElement("span");
    mark.style.background = colours[i % colours.length];
    item.append(mark, family);
    legend.append(item);
  });
  byId("curve").innerHTML = `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="PSNR over counted TFLOPs">${parts.join("")}</svg>`;
  byId("curve").append(legend);
}

for (const prompt of Object.keys(data.videos)) byId("prompt").append(new Option(prompt, prompt));
byId("prompt").addEventListener("change", (event) => choose(event.target.value));
byId("play").addEventListener("click", () => play(!state.playing));
byId("frame").addEventListener("input", (event) => seek(Number(event.target.value)));
byId("overlay").addEventListener("change", (event) => lay(event.target.value));
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("select")) return;
  const overlays = ["none", "weight", "reused"];
  if (event.key === " " && !event.target.matches("button, summary, input[type=radio], input[type=checkbox]")) play(!state.playing);
  else if (event.key === "ArrowRight" && !event.target.matches("input")) seek(state.frame + 1);
  else if (event.key === "ArrowLeft" && !event.target.matches("input")) seek(state.frame - 1);
  else if (["1", "2", "3"].includes(event.key)) lay(overlays[event.key - 1]);
  else return;
  event.preventDefault();
});
drawCurve(data.points);
offerMethods();
choose(Object.keys(data.videos)[0]);
