import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { load, plain } from "./scripts.js";

const { formatCount, packColor, readNumbers, updateSavedOutputs } = load(
  ["page.js", "explorer.js"],
  ["formatCount", "packColor", "readNumbers", "updateSavedOutputs"],
);
const panel = load(["page.js", "chat_panel.js"], ["updateSavedOutput"]);

/** JupyterLab's model of a notebook whose cells have these outputs. */
function notebook(...cells) {
  const stored = cells.map((outputs) =>
    outputs.map((data) => ({
      data,
      setData(value) {
        this.data = value.data;
      },
    })),
  );
  const model = { cells: stored.map((outputs) => ({ outputs: { length: outputs.length, get: (i) => outputs[i] } })) };
  return { manager: { context: { model } }, data: () => stored.map((outputs) => outputs.map((output) => output.data)) };
}

describe("values from the kernel", () => {
  it("numbers are grouped by thousands", () => {
    assert.equal(formatCount(1234567), "1,234,567");
    assert.equal(formatCount(0), "0");
  });

  it("a color is stored with blue first", () => {
    assert.equal(packColor("#12ab9f"), 0x9fab12);
    assert.equal(packColor("#ff0000"), 0x0000ff);
  });

  it("numbers are read from any offset of a buffer", () => {
    const packed = new Uint8Array(9);
    new DataView(packed.buffer).setUint32(1, 7, true);
    new DataView(packed.buffer).setUint32(5, 4294967295, true);
    assert.deepEqual([...readNumbers(new DataView(packed.buffer, 1, 8), Uint32Array)], [7, 4294967295]);
  });
});

describe("the static outputs of an explorer", () => {
  const saved = { image: { "image/png": "new" }, table: { "text/html": "<p class=mine>new</p>" } };

  it("replaces its table and the image before it, and nothing else", () => {
    const other = { "text/html": "<p class=other>" };
    const { manager, data } = notebook([other], [{ "image/png": "old" }, { "text/html": "<p class=mine>old</p>" }]);
    updateSavedOutputs(manager, "mine", saved);
    assert.deepEqual(plain(data()), [[other], [saved.image, saved.table]]);
  });

  it("leaves an output before the table that is not an image", () => {
    const before = { "text/plain": "printed" };
    const { manager, data } = notebook([before, { "text/html": "<p class=mine>old</p>" }]);
    updateSavedOutputs(manager, "mine", saved);
    assert.deepEqual(plain(data()), [[before, saved.table]]);
  });

  it("does nothing where there is no notebook model", () => {
    assert.equal(updateSavedOutputs(undefined, "mine", saved), undefined);
    assert.equal(updateSavedOutputs({ context: { model: { cells: [{}] } } }, "mine", saved), undefined);
  });
});

describe("the transcript of a chat panel", () => {
  const saved = { "text/html": "<div class=mine>new</div>", "text/plain": "new" };

  it("replaces the output of its name, and nothing else", () => {
    const other = { "text/html": "<div class=other>" };
    const { manager, data } = notebook([other, { "text/html": "<div class=mine>old</div>" }, {}]);
    panel.updateSavedOutput(manager, "mine", saved);
    assert.deepEqual(plain(data()), [[other, saved, {}]]);
  });

  it("writes nothing where nothing changed", () => {
    const same = { "text/html": saved["text/html"] };
    const { manager, data } = notebook([same]);
    panel.updateSavedOutput(manager, "mine", saved);
    assert.deepEqual(data(), [[same]]);
    assert.equal(data()[0][0], same);
  });

  it("does nothing where there is no notebook model", () => {
    assert.equal(panel.updateSavedOutput(undefined, "mine", saved), undefined);
  });
});
