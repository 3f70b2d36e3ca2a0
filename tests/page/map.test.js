import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { load, plain } from "./scripts.js";

const { outline, PointMap, GRID, MARGIN, MOST_ZOOM } = load(
  ["explorer_raster.js", "explorer_map.js"],
  ["outline", "PointMap", "GRID", "MARGIN", "MOST_ZOOM"],
);

/** A map of 400 × 200 pixels without a page: only what its geometry reads. */
function map() {
  const made = Object.create(PointMap.prototype);
  return Object.assign(made, {
    size: [400, 200],
    dense: 1,
    zoom: 1,
    middle: [GRID / 2, GRID / 2],
    codes: new Uint8Array(10),
    frame: 1,
  });
}

const near = (found, expected) =>
  expected.forEach((value, i) => assert.ok(Math.abs(found[i] - value) < 1e-6 * GRID, `${found} is not ${expected}`));

describe("outline", () => {
  it("is the line itself for a lasso", () => {
    const line = [[1, 2], [3, 4], [5, 0]];
    assert.deepEqual(plain(outline({ shape: "lasso", line })), line);
  });

  it("is the four corners of a box from its first and last point", () => {
    const line = [[1, 2], [9, 9], [5, 6]];
    assert.deepEqual(plain(outline({ shape: "box", line })), [[1, 2], [5, 2], [5, 6], [1, 6]]);
  });

  it("is empty where nothing is drawn", () => {
    assert.deepEqual(plain(outline({ shape: "pan", line: null })), []);
  });
});

describe("view", () => {
  it("fits the grid into the shorter side, less the margins, and centers it", () => {
    const { scale, x, y } = map().view();
    near([scale * GRID], [200 - 2 * MARGIN]);
    near([x + (scale * GRID) / 2, y + (scale * GRID) / 2], [200, 100]);
  });

  it("is in pixels of the screen where those are dense", () => {
    const page = map().view();
    const screen = map().view(2);
    near([screen.scale, screen.x, screen.y], [2 * page.scale, 2 * page.x, 2 * page.y]);
  });

  it("is undone by onGrid", () => {
    const { scale, x, y } = map().view();
    near(map().onGrid(x + scale * 1000, y + scale * 60000), [1000, 60000]);
  });
});

describe("moving and zooming", () => {
  it("keeps the point under the pointer where it is", () => {
    const shown = map();
    const before = shown.onGrid(130, 40);
    shown.zoomAt(3, 130, 40);
    assert.equal(shown.zoom, 3);
    near(shown.onGrid(130, 40), before);
  });

  it("zooms within its limits", () => {
    const shown = map();
    shown.zoomAt(1e9, 10, 10);
    assert.equal(shown.zoom, MOST_ZOOM);
    shown.zoomAt(1e-9, 10, 10);
    assert.equal(shown.zoom, 0.5);
  });

  it("moves by pixels of the page at every zoom", () => {
    const shown = map();
    shown.zoomAt(4, 200, 100);
    const before = shown.onGrid(50, 60);
    shown.move(10, -20);
    near(shown.onGrid(60, 40), before);
  });

  it("shows the whole map again", () => {
    const shown = map();
    shown.zoomAt(4, 30, 30);
    shown.whole();
    assert.equal(shown.zoom, 1);
    assert.deepEqual(plain(shown.middle), [GRID / 2, GRID / 2]);
  });
});

describe("radius", () => {
  const of = (count, zoom = 1, dense = 1) =>
    Object.assign(map(), { codes: new Uint8Array(count), zoom, dense }).radius();

  it("shrinks as the points get more", () => {
    assert.deepEqual([300, 301, 3000, 3001, 20000, 20001].map((count) => of(count)), [5, 3.5, 3.5, 2.2, 2.2, 1.3]);
  });

  it("grows with the zoom up to 8 pixels of the page", () => {
    assert.ok(of(300, 2) > of(300));
    assert.equal(of(300, 400), 8);
    assert.equal(of(300, 400, 2), 16);
  });
});
