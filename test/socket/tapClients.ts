/** Runs the other clients of Tap, under the Node that they need. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import type { Server } from "../servers/installed.js"

const at = (path: string): string => fileURLToPath(new URL(path, import.meta.url))
const modules = at("../../.generated/tap-clients/node_modules")
export const node = `${modules}/node-${process.platform}-${process.arch}/bin/node`

export const tapClients: Server = {
  name: "Another client of Tap",
  commands: [node],
  files: [`${modules}/@atproto/tap/dist/index.js`, `${modules}/@atcute/tap/dist/index.js`],
  install: "bash test/socket/tapClients.sh"
}

/** What a client has printed so far, whole lines of JSON. */
export type Printed = ReadonlyArray<Readonly<Record<string, unknown>>>

/** Starts a client, which ends with the scope. `tell` is called after each line. */
export const run = (
  args: ReadonlyArray<string>,
  tell: () => void
): Effect.Effect<{ readonly printed: Printed; readonly said: () => string }, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const child = spawn(node, [at("./tapClient.js"), ...args], { stdio: ["ignore", "pipe", "pipe"] })
      const printed: Array<Readonly<Record<string, unknown>>> = []
      let rest = ""
      let said = ""
      child.stdout.on("data", (part) => {
        const lines = (rest + String(part)).split("\n")
        rest = lines.pop()!
        printed.push(...lines.map((line) => JSON.parse(line)))
        tell()
      })
      child.stderr.on("data", (part) => (said += String(part)))
      return { child, printed, said: () => said }
    }),
    ({ child }) =>
      Effect.async<void>((resume) => {
        if (child.exitCode !== null || child.signalCode !== null) return resume(Effect.void)
        child.once("exit", () => resume(Effect.void))
        child.kill("SIGKILL")
      })
  )
