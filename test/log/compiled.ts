/** A program of a test as plain JavaScript: a loader for TypeScript would make each of its many starts ten times slower. */
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import ts from "typescript"

const root = fileURLToPath(new URL("../..", import.meta.url))

export interface Compiled {
  readonly script: string
  readonly remove: () => void
}

/** Compiles a file, named from the root and without its ending, and what it needs. */
export const compile = (name: string): Compiled => {
  const built = join(root, ".generated", `${name.replaceAll("/", "-")}-${process.pid}`)
  const compilerOptions = { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022, verbatimModuleSyntax: true }
  const build = (file: string): string => {
    const target = join(built, `${file}.js`)
    if (existsSync(target)) return target
    const { outputText } = ts.transpileModule(readFileSync(join(root, `${file}.ts`), "utf8"), { compilerOptions })
    mkdirSync(dirname(target), { recursive: true })
    writeFileSync(target, outputText)
    for (const [, needed = ""] of outputText.matchAll(/ from "(\..*)\.js"/g)) build(join(dirname(file), needed))
    return target
  }
  return { script: build(name), remove: () => rmSync(built, { recursive: true, force: true }) }
}
