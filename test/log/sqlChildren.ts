/** Starts `sqlChild.ts`. */
import * as Effect from "effect/Effect"
import { spawn } from "node:child_process"
import * as NFS from "node:fs"
import { dirname, join } from "node:path"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import ts from "typescript"

const root = fileURLToPath(new URL("../..", import.meta.url))
const built = join(root, ".generated", `sql-${process.pid}`)

/** To be called when the tests are over. */
export const removeBuilt = (): void => NFS.rmSync(built, { recursive: true, force: true })

/** The child as plain JavaScript: a loader for TypeScript would make each of its many starts ten times slower. */
const build = (file: string): string => {
  const target = join(built, `${file}.js`)
  if (NFS.existsSync(target)) return target
  const { outputText } = ts.transpileModule(NFS.readFileSync(join(root, `${file}.ts`), "utf8"), {
    compilerOptions: { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022, verbatimModuleSyntax: true }
  })
  NFS.mkdirSync(dirname(target), { recursive: true })
  NFS.writeFileSync(target, outputText)
  for (const [, needed = ""] of outputText.matchAll(/ from "(\..*)\.js"/g)) build(join(dirname(file), needed))
  return target
}

/** A child with the lines it said; it is killed with the scope. */
export const child = (mode: "save" | "lock" | "copy", database: string) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const process_ = spawn(process.execPath, [build("test/log/sqlChild"), mode, database], {
        stdio: ["ignore", "pipe", "inherit"]
      })
      const exited = new Promise<void>((resolve) => process_.once("close", () => resolve()))
      const lines: Array<string> = []
      let wake = () => {}
      createInterface({ input: process_.stdout }).on("line", (line) => {
        lines.push(line)
        wake()
      })
      /** Waits until it has said something. */
      const begun = Effect.async<string>((resume) => {
        wake = () => {
          if (lines[0] !== undefined) resume(Effect.succeed(lines[0]))
        }
        wake()
      })
      /** Waits until it says that the next time. */
      const said = (line: string) =>
        Effect.async<void>((resume) => {
          wake = () => {
            if (lines.at(-1) === line) resume(Effect.void)
          }
          process_.once("close", () => resume(Effect.void))
        })
      const ended = Effect.promise(() => exited)
      const kill = Effect.zipRight(
        Effect.sync(() => process_.kill("SIGKILL")),
        ended
      )
      return { lines, begun, said, ended, kill }
    }),
    ({ kill }) => kill
  )
