/**
 * Holds package.json's `exports` and the tree of src together: every PascalCase file and index of a family folder is
 * exported, nothing else is, and every target exists in dist. `--write` rewrites the field instead of complaining.
 */
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs"
import { fileURLToPath } from "node:url"

type Target = string | { readonly types: string; readonly default: string }
type Exports = Record<string, Target>

/** Maps source files, like `http/HttpSource.ts`, to the `exports` field. Core sits at the root; the command line is not a module. */
export const exportsOf = (files: ReadonlyArray<string>): Exports => {
  const entries = files.flatMap((file): ReadonlyArray<[string, Target]> => {
    const match = /^([a-z]\w*)\/(index|[A-Z]\w*)\.ts$/.exec(file)
    if (match === null || match[1] === "cli") return []
    const path = [".", ...(match[1] === "core" ? [] : [match[1]]), ...(match[2] === "index" ? [] : [match[2]])].join(
      "/"
    )
    const target = `./dist/${match[1]}/${match[2]}`
    return [[path, { types: `${target}.d.ts`, default: `${target}.js` }]]
  })
  // Core first, then folder by folder, each folder's own path before its modules.
  const rank = (path: string) => (/^\.(\/[A-Z]\w*)?$/.test(path) ? 0 : 1)
  entries.sort(([a], [b]) => rank(a) - rank(b) || (a < b ? -1 : 1))
  return { ...Object.fromEntries(entries), "./package.json": "./package.json" }
}

/** Says, one sentence each, where the declared exports, the source files and the built files disagree. */
export const problems = (
  declared: Exports,
  files: ReadonlyArray<string>,
  isBuilt: (target: string) => boolean
): ReadonlyArray<string> => {
  const wanted = exportsOf(files)
  const differ = [...new Set([...Object.keys(wanted), ...Object.keys(declared)])].flatMap((path) => {
    if (!(path in declared)) return [`${path} is a public module that package.json does not export`]
    if (!(path in wanted)) return [`${path} is exported but is no public module of src`]
    return JSON.stringify(declared[path]) === JSON.stringify(wanted[path]) ? [] : [`${path} has the wrong target`]
  })
  const missing = Object.values(declared)
    .flatMap((target) => (typeof target === "string" ? [target] : Object.values(target)))
    .filter((target) => !isBuilt(target))
    .map((target) => `${target} does not exist after the build`)
  return [...differ, ...missing]
}

const main = () => {
  const root = new URL("../../", import.meta.url)
  const manifest = new URL("package.json", root)
  const files = readdirSync(new URL("src", root), { recursive: true, encoding: "utf8" }).map((f) =>
    f.replaceAll("\\", "/")
  )
  const json = JSON.parse(readFileSync(manifest, "utf8"))
  if (process.argv.includes("--write")) {
    writeFileSync(manifest, `${JSON.stringify({ ...json, exports: exportsOf(files) }, null, 2)}\n`)
    return
  }
  const found = problems(json.exports, files, (target) => existsSync(new URL(target, root)))
  for (const line of found) console.error(`exports: ${line}`)
  if (found.length > 0) {
    console.error("exports: `npm run exports` writes the field anew")
    process.exitCode = 1
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) main()
