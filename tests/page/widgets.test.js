import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { load, plain } from "./scripts.js";

const { formatCount, packColor, readNumbers, updateSavedOutputs } = load(
  ["page.js", "explorer.js"],
  ["formatCount", "packColor", "readNumbers", "updateSavedOutputs"],
);
const panel = load(
  ["page.js", "chat_turns.js", "chat_panel.js"],
  ["cellSource", "draftOf", "insertCell", "updateSavedOutput", "watchKernel"],
);

/** A signal of JupyterLab. */
function signal() {
  const slots = new Set();
  return {
    slots,
    connect: (slot) => slots.add(slot),
    disconnect: (slot) => slots.delete(slot),
    emit: (value) => slots.forEach((slot) => slot(null, value)),
  };
}

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

describe("a new cell from a block of code", () => {
  function openNotebook(...outputs) {
    const cells = outputs.map((html, i) => ({
      id: `cell${i}`,
      outputs: { length: 1, get: () => ({ data: { "text/html": html } }) },
    }));
    const sharedModel = {
      insertCell(at, cell) {
        const made = { id: `new${cells.length}`, ...cell };
        cells.splice(at, 0, made);
        return made;
      },
    };
    return { manager: { context: { model: { cells, sharedModel } } }, sources: () => cells.map(({ source }) => source) };
  }

  it("is below the panel's own cell, the next one below that", () => {
    const { manager, sources } = openNotebook("<div class='other'>", '<div class="skytells-chat mine">', "<p>");
    const first = panel.insertCell(manager, "mine", "one", undefined);
    panel.insertCell(manager, "mine", "two", first);
    assert.deepEqual(sources(), [undefined, undefined, "one", "two", undefined]);
  });

  it("is below the panel again once the last new one is deleted", () => {
    const { manager, sources } = openNotebook('<div class="skytells-chat mine">', "<p>");
    panel.insertCell(manager, "mine", "one", "deleted");
    assert.deepEqual(sources(), [undefined, "one", undefined]);
  });

  it("is not made where the page has no such notebook", () => {
    const { manager } = openNotebook('<div class="skytells-chat mine-2">');
    for (const other of [undefined, {}, { context: { model: { cells: [] } } }, manager]) {
      assert.equal(panel.insertCell(other, "mine", "one", undefined), null);
    }
  });

  it("has the magic that runs commands of a shell, and no empty line at its end", () => {
    assert.equal(panel.cellSource("x = 1\n\n", "python"), "x = 1");
    assert.equal(panel.cellSource("ls\n", "Bash"), "%%bash\nls");
    assert.equal(panel.cellSource("!ls\n", "sh"), "!ls");
    assert.equal(panel.cellSource("  indented", ""), "  indented");
  });
});

describe("a kernel that is lost", () => {
  function watched(withSession = true, status = "idle") {
    const told = [];
    const handlers = {};
    const model = { on: (event, handler) => (handlers[event] = handler), off: (event) => delete handlers[event] };
    const kernel = { id: "a", status, statusChanged: signal() };
    const session = { session: { kernel }, statusChanged: signal(), kernelChanged: signal() };
    const manager = withSession ? { context: { sessionContext: session } } : { kernel };
    const end = panel.watchKernel(model, manager, (words) => told.push(words));
    return { told, handlers, kernel, session, end };
  }

  it("is told once, whatever else follows", () => {
    const { told, session, handlers, kernel } = watched();
    for (const status of ["busy", "idle", "unknown", "starting"]) session.statusChanged.emit(status);
    assert.deepEqual(told, []);
    session.statusChanged.emit("autorestarting");
    kernel.status = "restarting";
    handlers.comm_live_update();
    session.kernelChanged.emit({ oldValue: kernel, newValue: null });
    assert.deepEqual(told, ["The kernel died and was restarted."]);
  });

  it("is one that was shut down or replaced, and not one that came back", () => {
    for (const [newValue, count] of [[null, 1], [{ id: "b" }, 1], [{ id: "a" }, 0]]) {
      const { told, session } = watched();
      session.kernelChanged.emit({ oldValue: { id: "a" }, newValue });
      assert.equal(told.length, count);
    }
  });

  it("is told by its status alone, or by the end of the widget's connection", () => {
    const { told, kernel } = watched(false);
    kernel.statusChanged.emit("dead");
    assert.deepEqual(told, ["The kernel died."]);
    for (const [status, count] of [["idle", 0], ["busy", 0], ["restarting", 1], [null, 1]]) {
      const { told, handlers } = watched(false, status);
      handlers.comm_live_update();
      assert.equal(told.length, count);
    }
    const alone = [];
    const handlers = {};
    panel.watchKernel({ on: (event, handler) => (handlers[event] = handler) }, undefined, (words) => alone.push(words));
    handlers.comm_live_update();
    assert.equal(alone.length, 1);
  });

  it("is not watched any more once the view is gone", () => {
    const { session, handlers, end } = watched();
    end();
    assert.equal(session.statusChanged.slots.size + session.kernelChanged.slots.size, 0);
    assert.deepEqual(handlers, {});
  });

  it("leaves what was typed to the next panel, once", () => {
    const stored = new Map();
    const sessionStorage = {
      getItem: (key) => stored.get(key) ?? null,
      setItem: (key, text) => stored.set(key, text),
      removeItem: (key) => stored.delete(key),
    };
    const { draftOf } = load(["page.js", "chat_turns.js", "chat_panel.js"], ["draftOf"], { sessionStorage });
    draftOf("one").keep("typed");
    assert.equal(draftOf("two").take(), "");
    assert.equal(draftOf("one").take(), "typed");
    assert.equal(draftOf("one").take(), "");
    panel.draftOf("one").keep("where a browser allows no storage");
    assert.equal(panel.draftOf("one").take(), "");
  });
});

describe("the keys of a review", () => {
  const { reviewAction } = load(["page.js", "review.js"], ["reviewAction"]);
  const key = (name, held = {}) => reviewAction({ key: name, ctrlKey: false, metaKey: false, altKey: false, ...held }, 3);

  it("digits choose a label that there is", () => {
    assert.deepEqual(["1", "3", "4", "0"].map((name) => key(name)), [0, 2, null, -1]);
  });

  it("letters in any case and arrows do the rest, and others nothing", () => {
    assert.deepEqual(["u", "U", "Backspace", "n", "j"].map((name) => key(name)), ["undo", "undo", "undo", "note", "next"]);
    assert.deepEqual(["ArrowLeft", "ArrowRight", "d", "Enter"].map((name) => key(name)), ["back", "forth", null, null]);
  });

  it("the browser's own shortcuts stay its own", () => {
    assert.equal(key("1", { ctrlKey: true }), null);
    assert.equal(key("1", { altKey: true }), null);
    assert.equal(key("z", { ctrlKey: true }), "undo");
  });
});
