/** A program of a test as one file of plain JavaScript: of a process that is started a hundred times, loading modules is most of its work. */
import { buildSync } from "esbuild"
import { rmSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import type { Compiled } from "../log/compiled.js"

const root = fileURLToPath(new URL("../..", import.meta.url))

/** Bundles a file, named from the root and without its ending, with all that it needs. */
export const bundle = (name: string): Compiled => {
  const script = join(root, ".generated", `${name.replaceAll("/", "-")}-${process.pid}.mjs`)
  buildSync({
    entryPoints: [join(root, `${name}.ts`)],
    outfile: script,
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node20",
    // packages that are no modules ask for one
    banner: { js: 'import { createRequire } from "node:module"; const require = createRequire(import.meta.url);' },
    logLevel: "error"
  })
  return { script, remove: () => rmSync(script, { force: true }) }
}
