const OVERLAYS = ["none", "weight", "reused"];
const state = { frame: 0, frames: 1, playing: false, overlay: "none", difference: false, players: [], prompt: "", shown: new Set() };

const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

/* One method's video: draws a frame of its sprite sheet, or of that of its differences, and a map over it. */
class Player {
  constructor(name, view) {
    this.view = view;
    this.figure = element("figure");
    this.figure.dataset.method = name;
    const caption = element("figcaption");
    caption.append(element("strong", { textContent: view.title || name }), view.caption ? ` ${view.caption}` : "");
    this.figure.append(caption);
    if (view.error) {
      this.figure.append(element("p", { className: "error", textContent: view.error }));
      return;
    }
    this.canvas = element("canvas", { width: view.width, height: view.height });
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", `video of ${view.title || name}`);
    this.figure.append(this.canvas);
    if (view.decisions.length) this.figure.append(this.drawMap(name), this.steps());
    this.maps = {};
    for (const key of ["reused", "weight"]) if (view[key]) this.maps[key] = bytes(view[key]);
    this.image = this.load(view.sprite);
    new ResizeObserver(() => this.fit()).observe(this.figure);
  }

  get frames() { return this.view.error ? 0 : this.view.frames; }

  load(address) {
    const image = element("img");
    image.onload = draw;
    image.src = address;
    return image;
  }

  /* Small videos are enlarged by whole factors, as far as there is room. */
  fit() {
    const factor = Math.floor(this.figure.clientWidth / this.view.width);
    if (factor) this.figure.style.setProperty("--shown", `${factor * this.view.width}px`);
    else this.figure.style.removeProperty("--shown");
  }

  draw(frame, overlay, difference) {
    if (this.view.error || this.figure.closest("details:not([open])")) return;
    if (difference && this.view.difference) this.apart ??= this.load(this.view.difference);
    const image = difference && this.apart ? this.apart : this.image;
    if (!image.complete) return;
    const { width, height, columns, frames } = this.view;
    const shown = Math.min(frame, frames - 1);
    const context = this.canvas.getContext("2d");
    const left = (shown % columns) * width, top = Math.floor(shown / columns) * height;
    context.drawImage(image, left, top, width, height, 0, 0, width, height);
    Object.assign(this.canvas.dataset, { frame: shown, overlay, difference: image === this.apart });
    if (this.maps[overlay]) this.lay(context, this.maps[overlay], shown, scaleOf(overlay));
  }

  /* Latent frames are counted from the end, of four frames each: a first one may stand for a single frame. */
  lay(context, map, frame, { low, high }) {
    const [latents, rows, columns] = this.view.grid;
    const latent = latents - 1 - Math.floor((this.view.frames - 1 - frame) / 4);
    if (latent < 0) return;
    const cellWidth = this.canvas.width / columns, cellHeight = this.canvas.height / rows;
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        const value = Math.max(0, (map[(latent * rows + row) * columns + column] - low) / (high - low));
        context.fillStyle = `rgba(255, ${Math.round(190 * (1 - value))}, 0, ${0.75 * value})`;
        context.fillRect(column * cellWidth, row * cellHeight, cellWidth, cellHeight);
      }
    }
  }

  drawMap(name) {
    const rows = this.view.decisions, all = rows.flat(), mean = all.reduce((a, b) => a + b, 0) / all.length;
    return drawMap(rows, `decisions of ${name}, a row for each chunk: ${Math.round(100 * mean)} % computed`);
  }

  steps() {
    const line = element("p", { className: "steps" });
    const last = Math.max(...this.view.decisions.map((row) => row.length)) - 1;
    line.append(element("b", { textContent: "step 0" }), element("b", { textContent: `step ${last}` }));
    return line;
  }
}

/* The range of an overlay over all players: nothing is laid at its low end. */
function scaleOf(overlay) {
  let low = 255, high = 0;
  for (const player of state.players) {
    for (const value of player.maps?.[overlay] || []) {
      if (value && value < low) low = value;
      if (value > high) high = value;
    }
  }
  return { low: low < high ? low - 1 : 0, high };
}

/* Overlays that say nothing of any video are not offered. */
function offerOverlays() {
  const telling = OVERLAYS.filter((name) => name === "none" || state.players.some((player) => player.maps?.[name]?.some(Boolean)));
  for (const name of OVERLAYS) {
    document.querySelector(`input[name=overlay][value=${name}]`).parentElement.hidden = !telling.includes(name);
  }
  byId("overlay").hidden = byId("overlay-keys").hidden = telling.length === 1;
  if (!telling.includes(state.overlay)) lay("none");
  const apart = state.players.some((player) => player.view.difference);
  byId("difference-choice").hidden = byId("difference-keys").hidden = !apart;
  if (!apart) showDifference(false);
}

function tellOverlay() {
  const legend = byId("overlay-legend");
  legend.hidden = state.overlay === "none";
  if (legend.hidden) return;
  const { low, high } = scaleOf(state.overlay), weight = state.overlay === "weight";
  const number = (value) => (weight ? (value / 255).toFixed(2) : `${Math.round(value / 2.55)} %`);
  const ramp = element("span", { className: "ramp" });
  legend.replaceChildren(
    weight ? "Last motion weight of a token: " : "Share of the denoise steps that did not compute a token: ",
    number(low + 1), ramp, number(high), weight ? "; nothing lies where there was none." : ".",
  );
}

function draw() {
  byId("frame").value = state.frame;
  byId("frame-number").value = `${state.frame + 1} of ${state.frames}`;
  for (const player of state.players) player.draw(state.frame, state.overlay, state.difference);
}

function choose(prompt) {
  state.prompt = prompt;
  const views = Object.entries(data.videos[prompt] || {}).filter(([name]) => byId("others") || state.shown.has(name));
  state.players = views.map(([name, view]) => new Player(name, view));
  const figures = (wanted) => state.players.filter((player) => state.shown.has(player.figure.dataset.method) === wanted).map((player) => player.figure);
  byId("players").replaceChildren(...figures(true));
  byId("others")?.replaceChildren(...figures(false));
  state.frames = Math.max(1, ...state.players.map((player) => player.frames));
  state.frame = Math.min(state.frame, state.frames - 1);
  byId("frame").max = state.frames - 1;
  offerOverlays();
  tellOverlay();
  draw();
}

/* A tick box for each method, where there are more than the few that are shown at first. */
function offerMethods() {
  const names = [...new Set(Object.values(data.videos).flatMap((views) => Object.keys(views)))];
  state.shown = new Set(data.chosen.length ? data.chosen : names);
  if (!byId("choice")) return;
  byId("choice").hidden = state.shown.size === names.length;
  byId("methods").append(...names.map((name) => {
    const label = element("label"), box = element("input", { type: "checkbox", value: name, checked: state.shown.has(name) });
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
  const input = document.querySelector(`input[name=overlay][value=${overlay}]`);
  if (input.parentElement.hidden) return;
  state.overlay = overlay;
  input.checked = true;
  tellOverlay();
  draw();
}

function showDifference(on) {
  state.difference = on && !byId("difference-choice").hidden;
  byId("difference").checked = state.difference;
  byId("difference-legend").hidden = !state.difference;
  draw();
}

async function copy() {
  const text = byId("command");
  try {
    await navigator.clipboard.writeText(text.textContent);
    byId("copied").textContent = "copied";
  } catch {
    getSelection().selectAllChildren(text);  // no clipboard here: the next Ctrl-C copies it
    byId("copied").textContent = "selected: copy it with Ctrl-C";
  }
}

function start() {
  for (const prompt of Object.keys(data.videos)) byId("prompt").append(new Option(prompt, prompt));
  byId("prompt-choice").hidden = Object.keys(data.videos).length < 2;
  byId("prompt").addEventListener("change", (event) => choose(event.target.value));
  byId("play").addEventListener("click", () => play(!state.playing));
  byId("frame").addEventListener("input", (event) => seek(Number(event.target.value)));
  byId("overlay").addEventListener("change", (event) => lay(event.target.value));
  byId("difference").addEventListener("change", (event) => showDifference(event.target.checked));
  document.querySelector("details:has(#others)")?.addEventListener("toggle", draw);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("select")) return;
    if (event.key === " " && !event.target.matches("button, summary, input[type=radio], input[type=checkbox]")) play(!state.playing);
    else if (event.key === "ArrowRight" && !event.target.matches("input, .scroll")) seek(state.frame + 1);
    else if (event.key === "ArrowLeft" && !event.target.matches("input, .scroll")) seek(state.frame - 1);
    else if (["1", "2", "3"].includes(event.key)) lay(OVERLAYS[event.key - 1]);
    else if (event.key === "d") showDifference(!state.difference);
    else return;
    event.preventDefault();
  });
  offerMethods();
  choose(Object.keys(data.videos)[0]);
  if (data.autoplay && !matchMedia("(prefers-reduced-motion: reduce)").matches) play(true);
}

byId("copy")?.addEventListener("click", copy);
if (byId("players")) start();
