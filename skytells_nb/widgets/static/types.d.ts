// The values that a kernel and its pages exchange. Only the type checker reads this file.

type Model<Traits extends Record<string, any>> = import("@anywidget/types").AnyModel<Traits>;

/** The form of an output that a notebook's file stores. */
type MimeBundle = Record<string, string>;

interface Signal<Value> {
  connect(slot: (sender: unknown, value: Value) => void): void;
  disconnect(slot: (sender: unknown, value: Value) => void): void;
}

interface Kernel {
  id: string;
  status: string;
  statusChanged?: Signal<string>;
}

interface SessionContext {
  session: { kernel: Kernel | null } | null;
  statusChanged: Signal<string>;
  kernelChanged: Signal<{ oldValue: Kernel | null; newValue: Kernel | null }>;
}

interface CellModel {
  id?: string;
  outputs?: OutputList;
}

interface SharedNotebook {
  insertCell(index: number, cell: object): { id?: string };
}

/** The parts of JupyterLab's widget manager that a page uses; other front ends have some of them or none. */
interface NotebookManager {
  context?: {
    path?: string;
    sessionContext?: SessionContext;
    model?: { cells?: Iterable<CellModel>; sharedModel?: SharedNotebook };
  };
  kernel?: Kernel;
  rendermime?: { latexTypesetter?: { typeset(node: HTMLElement): unknown } | null };
}

interface OutputList {
  length: number;
  get(index: number): { data?: Record<string, unknown>; setData(value: { data: MimeBundle }): void };
}

/** One turn of a conversation; ``html`` is sanitized in the kernel. */
interface Turn {
  role: "user" | "assistant";
  who: string;
  text: string;
  html: string;
  attachments: { label: string; text: string }[];
  ending: string;
  facts: string;
  badge: { kind: string; text: string };
  problem: { name: string; message: string; advice: string } | null;
}

interface PanelTraits {
  title: string;
  turns: Turn[];
  busy: boolean;
  notice: string;
  attachments: { name: string; kind: string }[];
  totals: string;
  models: string[];
  model: string;
  system: string;
  saved_class: string;
}

/** What a person does with a turn. */
interface TurnActions {
  retry(): void;
  edit(turn: number, text: string): void;
  newCell(code: string): void;
}

type PanelMessage =
  | { kind: "part"; id: string; html: string }
  | { kind: "accepted" }
  | { kind: "refused"; why: string }
  | { kind: "variables"; names: string[] }
  | { kind: "cell"; note: string }
  | { kind: "saved"; data: MimeBundle };

/** A point's number, or ``NO_POINT``. */
type Point = number;
type Pair = [x: number, y: number];

interface TableRow {
  point: Point;
  cells: string[];
}

/** A page of the table; an empty object before the kernel has sent one. */
interface TablePage {
  columns?: string[];
  rows?: TableRow[];
  what?: string;
  total?: number;
  page?: number;
  pages?: number;
}

interface Legend {
  kind: "none" | "numbers" | "categories";
  entries?: { code: number; color: string; name: string; count: number }[];
  low?: string;
  high?: string;
  /** The code of the points without a value. */
  hollow?: number;
}

interface Group {
  name: string;
  count: number;
  facts: string;
  place: Pair | null;
}

interface Topic {
  name: string;
  count: number;
  place: Pair;
}

/** A name to write on a map: where it belongs, in pixels, and its size; one that is `kept` is written in any case. */
interface MapLabel {
  name: string;
  at: Pair;
  font: number;
  kept: boolean;
}

interface PlacedLabel {
  lines: string[];
  font: number;
  x: number;
  y: number;
}

interface ExplorerTraits {
  title: string;
  caption: string;
  columns: { number: number; label: string }[];
  color: number;
  palette: string[];
  legend: Legend;
  hidden: number[];
  question: string;
  search: string;
  searchable: boolean;
  page: number;
  table: TablePage;
  groups: Group[];
  topics: Topic[];
  parts: Topic[];
  busy: string;
  status: string;
  saved_class: string;
}

interface SavedExplorer {
  image: MimeBundle;
  table: MimeBundle;
}

interface HoveredRow {
  point: Point;
  columns: string[];
  row: TableRow;
}

type ExplorerMessage =
  | { kind: "points" | "codes" }
  | { kind: "marks"; filtered: boolean }
  | ({ kind: "hovered" } & HoveredRow)
  | ({ kind: "saved" } & SavedExplorer);

interface ReviewTraits {
  title: string;
  caption: string;
  labels: string[];
  annotators: string[];
  annotator: string;
  /** The row that is shown; ``model`` only once it is judged. */
  shown: { row: number; name: string; fields: { name: string; text: string }[]; label: number; note: string; model?: string };
  judged: number;
  total: number;
  can_undo: boolean;
  status: string;
  file: string;
  saved_class: string;
}

/** The pixels of a mark: offsets from its center, with a coverage of 0 to 255 each. */
interface Disc {
  reach: number;
  offsets: Int32Array;
  coverage: Uint8Array;
}

/** The transform from grid units to pixels. */
interface View extends Record<"scale" | "x" | "y", number> {}

/** The content of a map: coordinates in turn (x, y), and for each point its category and level. */
interface Scene {
  points: Uint16Array;
  codes: Uint8Array;
  levels: Uint8Array;
  /** A color as 0x00bbggrr for each code. */
  colors: number[];
  /** The code of points that are drawn as rings, -1 for none. */
  hollow: number;
}

/** A pointer that is down: ``line`` is set once a box or a lasso is being drawn. */
interface Drag {
  shape: string;
  from: Pair;
  last: Pair;
  moved: boolean;
  line: Pair[] | null;
}

interface MapEvents {
  selected(points: Uint32Array, adding: boolean): void;
  hovered(point: Point, x: number, y: number): void;
  /** The map has been zoomed in so far that it shows parts of topics. */
  closer?(): void;
  cleared(): void;
}
