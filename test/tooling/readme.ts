/**
 * Type-checks every ```ts block of README.md against the built package, imported by its own name as a user does.
 *
 * A block is a file of its own. `<!-- continues -->` on the line above a block appends it to the block before.
 * Line n of a generated file is line n of README.md, so an error points into the README.
 */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import ts from "typescript"

interface Block {
  /** README line of the first line of code, 1 for the first line of the file. */
  readonly line: number
  readonly code: string
}

export const extract = (markdown: string): ReadonlyArray<Block> => {
  const lines = markdown.split(/\r?\n/)
  const blocks: Array<Block> = []
  let above = ""
  for (let at = 0; at < lines.length; at++) {
    const fence = /^(`{3,})(\w*)/.exec(lines[at]!)
    if (fence === null) {
      if (lines[at]!.trim() !== "") above = lines[at]!.trim()
      continue
    }
    const start = at + 1
    do at++
    while (at < lines.length && !new RegExp(`^${fence[1]}\`*\\s*$`).test(lines[at]!))
    if (fence[2] === "ts" || fence[2] === "typescript") {
      const code = lines.slice(start, at).join("\n")
      const before = above === "<!-- continues -->" ? blocks.pop() : undefined
      const from = before ?? { line: start + 1, code: "" }
      const gap = start + 1 - from.line - (before === undefined ? 0 : from.code.split("\n").length)
      blocks.push({ line: from.line, code: before === undefined ? code : `${from.code}${"\n".repeat(gap + 1)}${code}` })
    }
    above = ""
  }
  return blocks
}

const main = () => {
  const root = fileURLToPath(new URL("../../", import.meta.url))
  const folder = `${root}.generated/readme/`
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  const files = extract(readFileSync(`${root}README.md`, "utf8")).map(({ code, line }) => {
    const file = `${folder}README-${line}.ts`
    writeFileSync(file, `${"\n".repeat(line - 1)}${code}\n`)
    return file
  })
  const parsed = ts.parseJsonConfigFileContent(
    ts.readConfigFile(`${root}tsconfig.json`, ts.sys.readFile).config,
    ts.sys,
    root,
    { noEmit: true, noUnusedLocals: false }
  )
  const { paths: _, ...options } = parsed.options
  const diagnostics = ts.getPreEmitDiagnostics(ts.createProgram(files, options))
  console.error(
    ts.formatDiagnosticsWithColorAndContext(diagnostics, {
      getCurrentDirectory: () => root,
      getCanonicalFileName: (name) => name,
      getNewLine: () => "\n"
    }) + `README.md: ${files.length} code block${files.length === 1 ? "" : "s"}, ${diagnostics.length} errors`
  )
  if (diagnostics.length > 0) process.exitCode = 1
}

if (process.argv[1] === fileURLToPath(import.meta.url)) main()
