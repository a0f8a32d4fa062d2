/**
 * TypeScript examples in Markdown: finds them, compiles them against the built package, which they import by its own name as
 * a user does, and runs those that state results.
 *
 * A result is stated by `// => value` behind a statement: an expression, a `const` or a `return`. The value is compared with
 * `deepStrictEqual`. An example that states nothing is compiled only.
 */
import { spawnSync } from "node:child_process"
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import path from "node:path"
import ts from "typescript"

/** A block of code; `line` is that of its first line in `file`, 1 for the first line of the file. */
export interface Example {
  readonly file: string
  readonly line: number
  readonly code: string
}

export interface Problem {
  readonly file: string
  readonly line: number
  readonly message: string
}

/** The ts blocks of a Markdown text. `<!-- continues -->` on the line above a block appends it to the block before. */
export const extract = (markdown: string): ReadonlyArray<Omit<Example, "file">> => {
  const lines = markdown.split(/\r?\n/)
  const blocks: Array<Omit<Example, "file">> = []
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

/** The compiler options of a package's root, without the paths that lead into its sources. */
export const optionsOf = (root: string): ts.CompilerOptions => {
  const { config } = ts.readConfigFile(path.join(root, "tsconfig.json"), ts.sys.readFile)
  const { paths: _, ...options } = ts.parseJsonConfigFileContent(config, ts.sys, root).options
  return { ...options, noUnusedLocals: false }
}

/** A host that parses each file once, however many programs read it. */
export const sharedHost = (options: ts.CompilerOptions): ts.CompilerHost => {
  const host = ts.createCompilerHost(options)
  const parsed = new Map<string, ts.SourceFile | undefined>()
  return {
    ...host,
    getSourceFile: (name, ...rest) => {
      if (!parsed.has(name)) parsed.set(name, host.getSourceFile(name, ...rest))
      return parsed.get(name)
    }
  }
}

/** Empties a folder of generated files. */
export const renew = (folder: string): void => {
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
}

const nameOf = ({ file, line }: Example): string => `${file.replace(/\.\w+$/, "").replaceAll("/", "-")}-${line}`

/**
 * Type-checks examples as files of their own in `folder`, somewhere below `root`. Line n of such a file is line n of the
 * file that the example stands in.
 */
export const compile = (
  root: string,
  folder: string,
  examples: ReadonlyArray<Example>,
  host?: ts.CompilerHost
): ReadonlyArray<Problem> => {
  renew(folder)
  const standsIn = new Map<string, string>()
  for (const example of examples) {
    const name = path.join(folder, `${nameOf(example)}.ts`)
    writeFileSync(name, `${"\n".repeat(example.line - 1)}${example.code}\n`)
    standsIn.set(name, example.file)
  }
  const program = ts.createProgram({
    rootNames: [...standsIn.keys()],
    options: { ...optionsOf(root), noEmit: true },
    ...(host === undefined ? {} : { host })
  })
  const diagnostics = [
    ...program.getOptionsDiagnostics(),
    ...[...standsIn.keys()].flatMap((name) => {
      const file = program.getSourceFile(name)
      return [...program.getSyntacticDiagnostics(file), ...program.getSemanticDiagnostics(file)]
    })
  ]
  return diagnostics.map(({ code, file, messageText, start }) => ({
    file: file === undefined ? "tsconfig.json" : (standsIn.get(path.normalize(file.fileName)) ?? file.fileName),
    line: file === undefined ? 1 : file.getLineAndCharacterOfPosition(start ?? 0).line + 1,
    message: `the example does not compile: TS${code}: ${ts.flattenDiagnosticMessageText(messageText, "\n  ")}`
  }))
}

const mark = "// =>"

/** The expression of a statement that can state a result. */
const valueOf = (node: ts.Node): ts.Expression | undefined =>
  ts.isExpressionStatement(node) || ts.isReturnStatement(node)
    ? node.expression
    : ts.isVariableStatement(node) && node.declarationList.declarations.length === 1
      ? node.declarationList.declarations[0]!.initializer
      : undefined

interface Instrumented {
  readonly code: string
  /** Where results are stated, as lines of the file that the example stands in. */
  readonly results: ReadonlyArray<number>
  readonly problems: ReadonlyArray<Problem>
}

/** Turns each stated result into a call that compares it: `x // => 1` becomes `__result("file:line", (x), () => (1))`. */
export const instrument = ({ code, file, line }: Example): Instrumented => {
  const source = ts.createSourceFile("example.ts", code, ts.ScriptTarget.Latest, true)
  const lineOf = (position: number) => line + source.getLineAndCharacterOfPosition(position).line
  const edits: Array<readonly [position: number, text: string]> = []
  const results: Array<number> = []
  const visit = (node: ts.Node): void => {
    const value = valueOf(node)
    const comment = value && ts.getTrailingCommentRanges(code, node.end)?.[0]
    const text = comment && code.slice(comment.pos, comment.end)
    if (value !== undefined && text?.startsWith(mark) === true) {
      const at = lineOf(comment!.pos)
      results.push(at)
      edits.push([value.getStart(source), `__result(${JSON.stringify(`${file}:${at}`)}, (`])
      edits.push([value.end, `), () => (${text.slice(mark.length).trim()}))`])
    }
    ts.forEachChild(node, visit)
  }
  visit(source)
  const problems = code
    .split("\n")
    .flatMap((text, index): ReadonlyArray<Problem> =>
      text.includes(mark) && !results.includes(line + index)
        ? [{ file, line: line + index, message: `the result is not behind an expression, a const or a return` }]
        : []
    )
  const edited = edits
    .sort(([a], [b]) => b - a)
    .reduce((before, [at, text]) => before.slice(0, at) + text + before.slice(at), code)
  return { code: edited, results, problems }
}

const runner = `
import { deepStrictEqual } from "node:assert/strict"
import { writeFileSync } from "node:fs"

const problems = []
let reached = new Set()
let current
const complain = (file, line, message) => problems.push({ file, line: Number(line), message: message.slice(0, 2000) })
const failed = (error) => complain(current.file, current.line, "the example fails: " + (error?.stack ?? String(error)))
process.on("unhandledRejection", failed)
process.on("uncaughtException", failed)

globalThis.__result = (where, actual, expected) => {
  reached.add(where)
  const [file, line] = where.split(":")
  try {
    deepStrictEqual(actual, expected())
  } catch (error) {
    complain(file, line, "the result is another one: " + error.message)
  }
  return actual
}

const tooLong = Symbol()
for (current of examples) {
  let timer
  const bound = new Promise((resolve) => (timer = setTimeout(resolve, 30_000, tooLong)))
  try {
    if ((await Promise.race([import(current.module), bound])) === tooLong) throw new Error("it takes more than 30 seconds")
    for (const line of current.results) {
      if (!reached.has(current.file + ":" + line)) complain(current.file, line, "the result is never reached")
    }
  } catch (error) {
    failed(error)
  }
  clearTimeout(timer)
}
writeFileSync(new URL("problems.json", import.meta.url), JSON.stringify(problems))
process.exit(0)
`

/**
 * Runs the examples that state results, one after the other in one process of their own, and compares the results. Says how
 * many have run.
 */
export const run = (
  folder: string,
  examples: ReadonlyArray<Example>
): { readonly ran: number; readonly problems: ReadonlyArray<Problem> } => {
  renew(folder)
  const compilerOptions = { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022, verbatimModuleSyntax: true }
  const instrumented = examples.map((example) => ({ ...example, ...instrument(example) }))
  const running = instrumented.filter(({ results }) => results.length > 0)
  const listed = running.map((example) => {
    const { code, file, line, results } = example
    const module = `./${nameOf(example)}.mjs`
    writeFileSync(path.join(folder, module), ts.transpileModule(code, { compilerOptions }).outputText)
    return { file, line, module, results }
  })
  const problems = instrumented.flatMap((example) => example.problems)
  if (running.length === 0) return { ran: 0, problems }
  const main = path.join(folder, "main.mjs")
  writeFileSync(main, `const examples = ${JSON.stringify(listed)}\n${runner}`)
  const ended = spawnSync(process.execPath, [main], { stdio: ["ignore", "ignore", "pipe"], timeout: 300_000 })
  if (ended.status !== 0) {
    const message = `the examples end with ${ended.signal ?? ended.status}: ${String(ended.stderr).slice(-2000)}`
    return { ran: running.length, problems: [...problems, { file: running[0]!.file, line: 1, message }] }
  }
  const found: ReadonlyArray<Problem> = JSON.parse(readFileSync(path.join(folder, "problems.json"), "utf8"))
  return { ran: running.length, problems: [...problems, ...found] }
}

/** Prints problems as `file:line message`, and sets the exit code. */
export const report = (title: string, summary: string, problems: ReadonlyArray<Problem>): void => {
  for (const { file, line, message } of problems) console.error(`${file}:${line} ${message}`)
  console.error(`${title}: ${summary}, ${problems.length} problem${problems.length === 1 ? "" : "s"}`)
  if (problems.length > 0) process.exitCode = 1
}
