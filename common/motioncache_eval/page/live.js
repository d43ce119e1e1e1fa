/* Follows one video: asks the server how far it is, and plays the chunks that are done, in order and over again. */
const { entry } = data;
const video = byId("video"), over = byId("over");
let now = { parts: [], weighed: [] }, playing = -1, weights = null;

const percent = (share) => `${(100 * share).toFixed(1)} %`;

async function ask(address) {
  const answer = await fetch(address);
  return answer.ok ? answer.json() : null;
}

function play(index) {
  playing = index;
  video.hidden = false;
  byId("empty").hidden = true;
  video.src = `../runs/${entry}/${now.parts[index]}`;
  byId("watching").textContent = `chunk ${index + 1} of ${now.parts.length} that are done`;
  video.play().catch(() => { video.controls = true; });
  weights = null;
  if (now.weighed.includes(index)) weigh(index);
}

async function weigh(index) {
  const found = await ask(`../progress/${entry}/weights/${index}`);
  if (found && index === playing) weights = { grid: found.grid, values: Uint8Array.from(atob(found.weight), (letter) => letter.charCodeAt(0)) };
}

/* Latent frames are counted from the end, of four frames each: a first one may stand for a single frame. */
function latentOf(time) {
  const [latents] = weights.grid, frames = Math.max(1, Math.round(video.duration * data.fps));
  const frame = Math.min(frames - 1, Math.floor(time * data.fps));
  return Math.max(0, latents - 1 - Math.floor((frames - 1 - frame) / 4));
}

function drawWeights() {
  requestAnimationFrame(drawWeights);
  over.hidden = !(byId("weights").checked && weights && video.duration);
  if (over.hidden) return;
  const [, rows, columns] = weights.grid, first = latentOf(video.currentTime) * rows * columns;
  if (over.width !== columns || over.height !== rows) Object.assign(over, { width: columns, height: rows });
  const context = over.getContext("2d");
  context.clearRect(0, 0, columns, rows);
  for (let token = 0; token < rows * columns; token++) {
    const value = weights.values[first + token] / 255;
    context.fillStyle = `rgba(255, ${Math.round(190 * (1 - value))}, 0, ${0.75 * value})`;
    context.fillRect(token % columns, Math.floor(token / columns), 1, 1);
  }
  over.dataset.weighed = first;
}

/* Small videos are enlarged by whole factors, as far as there is room. */
function fit() {
  const factor = Math.floor(byId("watch").clientWidth / data.width);
  byId("watch").style.setProperty("--shown", `${Math.max(1, factor) * data.width}px`);
}

function show() {
  if (playing < 0 && now.parts.length) play(0);
  if (playing >= 0 && !weights && now.weighed.includes(playing)) weigh(playing);
  byId("weigh").hidden = !now.weighed.length;
  byId("bar").value = now.share;
  const left = now.seconds_left === null ? "" : `, about ${Math.ceil(now.seconds_left)} s left`;
  byId("left").textContent = `${Math.round(100 * now.share)} % after ${now.seconds.toFixed(0)} s${left}`;
  byId("computed").hidden = !now.decisions.length;
  if (now.decisions.length) drawMap(now.decisions, "what was computed until now, a row for each chunk", byId("map"));
  byId("map").style.height = `${Math.min(8, now.decisions.length)}rem`;
  byId("errors").hidden = !now.errors;
  if (now.errors) byId("errors").textContent = `Forecasts were off by ${percent(now.errors.found)} until now; ${percent(now.errors.expected)} was expected.`;
}

async function follow() {
  const found = await ask(`../progress/${entry}`);
  if (found) {
    now = found;
    show();
    setTimeout(follow, 500);
  } else {
    byId("left").textContent = "This video is not being made any more: it is in the history.";
    byId("bar").hidden = true;
  }
}

video.addEventListener("ended", () => play((playing + 1) % now.parts.length));
byId("weights").addEventListener("change", (event) => { byId("weights-legend").hidden = !event.target.checked; });
new ResizeObserver(fit).observe(byId("watch"));
drawWeights();
follow();
