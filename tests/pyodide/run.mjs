// Runs a Python program in Pyodide: node run.mjs '{"pyodide": folder, "packages": folder, "load": [names], "mounts": {inside: outside},
// "program": file}'. What it prints goes to standard output.
import { readFileSync, statSync } from "node:fs";
import { pathToFileURL } from "node:url";

const { pyodide, packages, load, mounts, program } = JSON.parse(process.argv[2]);
const { loadPyodide } = await import(pathToFileURL(`${pyodide}/pyodide.mjs`).href);
const python = await loadPyodide({
  packageCacheDir: packages,
  stdout: (line) => console.log(line),
  stderr: (line) => console.error(line),
});
await python.loadPackage(load, { messageCallback: () => {}, errorCallback: (text) => console.error(text) });
for (const [inside, outside] of Object.entries(mounts)) {
  if (statSync(outside).isFile()) {
    python.FS.writeFile(inside, readFileSync(outside));
  } else {
    python.FS.mkdirTree(inside);
    python.FS.mount(python.FS.filesystems.NODEFS, { root: outside }, inside);
  }
}
try {
  python.runPython(readFileSync(program, "utf8"), { filename: program });
} catch (error) {
  console.error(error.message); // uncaught, it would be shown within a line of Pyodide's own, of a megabyte
  process.exitCode = 1;
}
