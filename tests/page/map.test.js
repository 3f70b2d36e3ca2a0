import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { load, plain } from "./scripts.js";

const { dragOutline, placeLabels, PointMap, twoLines, GRID, MARGIN, MAX_ZOOM } = load(
  ["explorer_raster.js", "explorer_map.js"],
  ["dragOutline", "placeLabels", "PointMap", "twoLines", "GRID", "MARGIN", "MAX_ZOOM"],
);

/** A map of 400 × 200 pixels without a page: only what its geometry reads. */
function map() {
  const created = Object.create(PointMap.prototype);
  return Object.assign(created, {
    size: [400, 200],
    pixelRatio: 1,
    zoom: 1,
    center: [GRID / 2, GRID / 2],
    codes: new Uint8Array(10),
    frameRequest: 1,
    events: {},
  });
}

const assertClose = (found, expected) =>
  expected.forEach((value, i) => assert.ok(Math.abs(found[i] - value) < 1e-6 * GRID, `${found} is not ${expected}`));

describe("dragOutline", () => {
  it("is the line itself for a lasso", () => {
    const line = [[1, 2], [3, 4], [5, 0]];
    assert.deepEqual(plain(dragOutline({ shape: "lasso", line })), line);
  });

  it("is the four corners of a box from its first and last point", () => {
    const line = [[1, 2], [9, 9], [5, 6]];
    assert.deepEqual(plain(dragOutline({ shape: "box", line })), [[1, 2], [5, 2], [5, 6], [1, 6]]);
  });

  it("is empty where nothing is drawn", () => {
    assert.deepEqual(plain(dragOutline({ shape: "pan", line: null })), []);
  });
});

describe("view", () => {
  it("fits the grid into the shorter side, less the margins, and centers it", () => {
    const { scale, x, y } = map().view();
    assertClose([scale * GRID], [200 - 2 * MARGIN]);
    assertClose([x + (scale * GRID) / 2, y + (scale * GRID) / 2], [200, 100]);
  });

  it("is in screen pixels, given a pixel ratio", () => {
    const page = map().view();
    const screen = map().view(2);
    assertClose([screen.scale, screen.x, screen.y], [2 * page.scale, 2 * page.x, 2 * page.y]);
  });

  it("is undone by toGrid", () => {
    const { scale, x, y } = map().view();
    assertClose(map().toGrid(x + scale * 1000, y + scale * 60000), [1000, 60000]);
  });
});

describe("moving and zooming", () => {
  it("keeps the point under the pointer where it is", () => {
    const shown = map();
    const before = shown.toGrid(130, 40);
    shown.zoomAt(3, 130, 40);
    assert.equal(shown.zoom, 3);
    assertClose(shown.toGrid(130, 40), before);
  });

  it("tells that one looks closer once, each time that one does", () => {
    let times = 0;
    const shown = map();
    shown.events.closer = () => times++;
    for (const factor of [1.2, 1.5, 2, 0.2, 4]) shown.zoomAt(factor, 10, 10);
    assert.equal(times, 2);
  });

  it("zooms within its limits", () => {
    const shown = map();
    shown.zoomAt(1e9, 10, 10);
    assert.equal(shown.zoom, MAX_ZOOM);
    shown.zoomAt(1e-9, 10, 10);
    assert.equal(shown.zoom, 0.5);
  });

  it("moves by pixels of the page at every zoom", () => {
    const shown = map();
    shown.zoomAt(4, 200, 100);
    const before = shown.toGrid(50, 60);
    shown.pan(10, -20);
    assertClose(shown.toGrid(60, 40), before);
  });

  it("shows the whole map again", () => {
    const shown = map();
    shown.zoomAt(4, 30, 30);
    shown.showAll();
    assert.equal(shown.zoom, 1);
    assert.deepEqual(plain(shown.center), [GRID / 2, GRID / 2]);
  });
});

describe("radius", () => {
  const of = (count, zoom = 1, pixelRatio = 1) =>
    Object.assign(map(), { codes: new Uint8Array(count), zoom, pixelRatio }).radius();

  it("shrinks as the number of points grows", () => {
    assert.deepEqual([300, 301, 3000, 3001, 20000, 20001].map((count) => of(count)), [5, 3.5, 3.5, 2.2, 2.2, 1.3]);
  });

  it("grows with the zoom up to 8 pixels of the page", () => {
    assert.ok(of(300, 2) > of(300));
    assert.equal(of(300, 400), 8);
    assert.equal(of(300, 400, 2), 16);
  });
});

describe("names on the map", () => {
  const size = [480, 440];
  const measure = (line, font) => line.length * font * 0.6;
  const place = (...labels) =>
    placeLabels(labels.map((label) => ({ font: 12, kept: false, ...label })), size, measure);

  /** Left, top, right and bottom of a placed name. */
  function box({ lines, font, x, y }) {
    const half = Math.max(...lines.map((line) => measure(line, font))) / 2;
    return [x - half, y - font * 1.2, x + half, y + (lines.length - 1) * font * 1.2];
  }

  it("are inside, wherever they belong on it", () => {
    for (const at of [[0, 0], [480, 440], [479, 2], [3, 438], [240, 220]]) {
      for (const name of ["cats", "client library for the API", "x".repeat(90)]) {
        const [placed] = place({ name, at });
        const [left, top, right, bottom] = box(placed);
        assert.ok(left >= 0 && top >= 0 && right <= size[0] && bottom <= size[1], `${name} at ${at}: ${box(placed)}`);
      }
    }
  });

  it("do not cover each other, and the first one chooses first", () => {
    const labels = Array.from({ length: 12 }, (_, i) => ({ name: `name number ${i}`, at: [200 + i, 200] }));
    const boxes = place(...labels).map(box);
    assert.ok(boxes.length > 2 && boxes.length < 12);
    assert.ok(Math.abs((boxes[0][1] + boxes[0][3]) / 2 - 200) < 12);
    for (const a of boxes) {
      for (const b of boxes) {
        assert.ok(a === b || a[2] <= b[0] || b[2] <= a[0] || a[3] <= b[1] || b[3] <= a[1], `${a} covers ${b}`);
      }
    }
  });

  it("are written in any case where they are kept, and not where they belong outside", () => {
    const kept = Array.from({ length: 12 }, () => ({ name: "selection", at: [200, 200], kept: true }));
    assert.equal(place(...kept).length, 12);
    assert.equal(place({ name: "outside", at: [-1, 5], kept: true }).length, 0);
  });

  it("have two lines of similar length", () => {
    assert.deepEqual(plain(twoLines("client library for the API")), ["client library", "for the API"]);
    assert.deepEqual(plain(twoLines("cats")), ["cats"]);
    assert.deepEqual(plain(twoLines("x".repeat(30))), ["x".repeat(30)]);
  });
});
