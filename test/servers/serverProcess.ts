/**
 * A server as a child process in a process group of its own, which ends with the scope; and a free port for it.
 *
 * Its standard input stays open as long as the tests live: a recipe that ends when it reads the end of it leaves nothing behind
 * a test run that was killed.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { spawn } from "node:child_process"
import { connect, createServer } from "node:net"
import type { AddressInfo } from "node:net"

/** A port of loopback that nobody listens on just now. */
export const freePort: Effect.Effect<number> = Effect.async((resume) => {
  const server = createServer()
  server.listen(0, "127.0.0.1", () => {
    const { port } = server.address() as AddressInfo
    server.close(() => resume(Effect.succeed(port)))
  })
})

/** Whether a port of loopback takes connections. */
export const isListening = (port: number): Effect.Effect<boolean> =>
  Effect.async((resume) => {
    const socket = connect(port, "127.0.0.1")
    // left open, it would be a client that a server waits for, some when they end too
    socket.once("connect", () => {
      socket.destroy()
      resume(Effect.succeed(true))
    })
    socket.once("error", () => resume(Effect.succeed(false)))
    return Effect.sync(() => void socket.destroy())
  })

/** A server that did not come up; the message holds what it said. */
export class ServerError extends Data.TaggedError("ServerError")<{ readonly message: string }> {}

export interface Options {
  readonly command: string
  readonly args: ReadonlyArray<string>
  readonly environment?: Readonly<Record<string, string>>
  /** The server is up when this port of loopback takes connections. */
  readonly port: number
  /** How long that may take [30 seconds]. */
  readonly within?: `${number} seconds`
}

/** Starts a server and waits until it takes connections; fails with what it said. */
export const startProcess = ({
  args,
  command,
  environment = {},
  port,
  within = "30 seconds"
}: Options): Effect.Effect<void, ServerError, Scope.Scope> =>
  Effect.gen(function* () {
    const said: Array<string> = []
    const problem = (what: string) => new ServerError({ message: `${command} ${what}.\n${said.join("").slice(-4000)}` })
    const child = yield* Effect.acquireRelease(
      Effect.sync(() => {
        const child = spawn(command, args, {
          detached: true,
          stdio: ["pipe", "pipe", "pipe"],
          env: { ...process.env, ...environment }
        })
        child.stdin.on("error", () => {})
        for (const output of [child.stdout, child.stderr]) output.on("data", (part) => said.push(String(part)))
        const ended = new Promise<string>((resolve) => {
          child.once("error", (error) => resolve(`cannot be started: ${error.message}`))
          child.once("exit", (code, signal) => resolve(`ended with ${signal ?? code}`))
        })
        // the last process of the group that holds the output is gone
        const gone = new Promise<void>((resolve) => child.once("close", () => resolve()))
        return { child, ended, gone }
      }),
      ({ child, gone }) =>
        Effect.gen(function* () {
          child.stdin.destroy()
          stop(child.pid, "SIGTERM")
          // a finalizer cannot be interrupted, not by a timeout either
          const isGone = Effect.timeoutOption(Effect.interruptible(Effect.promise(() => gone)), "2 seconds")
          yield* isGone
          stop(child.pid, "SIGKILL")
          yield* isGone
        })
    )
    const up = isListening(port).pipe(
      Effect.repeat({ until: (listens) => listens, schedule: Schedule.spaced("50 millis") }),
      Effect.timeoutFail({ duration: within, onTimeout: () => problem(`does not listen on port ${port}`) })
    )
    const down = Effect.flatMap(
      Effect.promise(() => child.ended),
      (how) => Effect.fail(problem(how))
    )
    yield* Effect.raceFirst(up, down)
  })

/** Ends the whole group, as far as it is still there. */
const stop = (pid: number | undefined, signal: "SIGTERM" | "SIGKILL"): void => {
  if (pid === undefined) return
  try {
    process.kill(-pid, signal)
  } catch {
    // all gone
  }
}
