/**
 * Runs a command of the shell in a process group of its own, and ends the whole group when it is no longer wanted.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { ChildProcess } from "node:child_process"
import { spawn } from "node:child_process"
import { showMillis } from "./units.js"

export interface Options {
  readonly timeoutMillis: number | undefined
  /** Takes what the command writes, line by line; without it that goes straight to our stderr. */
  readonly onOutput: ((text: string) => void) | undefined
}

/** Why a command does not count as done. */
export class CommandFailed {
  readonly _tag = "CommandFailed"
  constructor(readonly message: string) {}
}

const living = new Set<ChildProcess>()

/** Ends all commands that still run, at once: for the last moment of the process. */
export const killAll = (): void => {
  for (const child of living) signalGroup(child, "SIGKILL")
}

const signalGroup = (child: ChildProcess, signal: NodeJS.Signals | 0): boolean =>
  child.pid !== undefined &&
  Option.isSome(Option.liftThrowable(() => process.kill(-child.pid!, signal))().pipe(Option.filter((sent) => sent)))

/** Runs `sh -c command` with this on its stdin. Fails unless it exits with 0. */
export const run = (command: string, input: string, options: Options): Effect.Effect<void, CommandFailed> =>
  Effect.acquireUseRelease(
    Effect.tap(Effect.map(Deferred.make<void, CommandFailed>(), start(command, input, options)), ({ child }) =>
      living.add(child)
    ),
    ({ ended }) => {
      const { timeoutMillis } = options
      return timeoutMillis === undefined
        ? Deferred.await(ended)
        : Effect.timeoutFail(Deferred.await(ended), {
            duration: timeoutMillis,
            onTimeout: () => new CommandFailed(`ran longer than ${showMillis(timeoutMillis)} and was ended`)
          })
    },
    ({ child }) =>
      Effect.ensuring(
        release(child),
        Effect.sync(() => living.delete(child))
      )
  )

interface Running {
  readonly child: ChildProcess
  readonly ended: Deferred.Deferred<void, CommandFailed>
}

const start =
  (command: string, input: string, { onOutput }: Options) =>
  (ended: Deferred.Deferred<void, CommandFailed>): Running => {
    const output = onOutput === undefined ? 2 : "pipe"
    const child = spawn("sh", ["-c", command], { detached: true, stdio: ["pipe", output, output] })
    const end = (problem: string | undefined): void =>
      Deferred.unsafeDone(ended, problem === undefined ? Effect.void : Effect.fail(new CommandFailed(problem)))
    child.once("error", ({ message }) => end(`cannot be started: ${message}`))
    child.once("exit", (code, signal) =>
      end(code === 0 ? undefined : code === null ? `was ended by ${signal}` : `exited with ${code}`)
    )
    if (onOutput !== undefined) {
      for (const stream of [child.stdout, child.stderr]) forwardLines(stream, onOutput)
    }
    // a command need not read its input
    child.stdin?.on("error", () => {})
    child.stdin?.end(input)
    return { child, ended }
  }

const forwardLines = (stream: NodeJS.ReadableStream | null, onOutput: (text: string) => void): void => {
  let rest = ""
  stream?.setEncoding("utf8")
  stream?.on("data", (text: string) => {
    const end = (rest + text).lastIndexOf("\n") + 1
    const whole = rest + text
    if (end > 0) onOutput(whole.slice(0, end))
    rest = whole.slice(end)
  })
  stream?.on("end", () => {
    if (rest !== "") onOutput(`${rest}\n`)
    rest = ""
  })
}

const hasEnded = (child: ChildProcess): boolean =>
  child.pid === undefined || child.exitCode !== null || child.signalCode !== null

/** Asks the group to end, and after a second makes it. */
const release = (child: ChildProcess): Effect.Effect<void> =>
  Effect.gen(function* () {
    if (!hasEnded(child)) {
      signalGroup(child, "SIGTERM")
      for (let round = 0; round < 50 && signalGroup(child, 0); round++) yield* Effect.sleep(20)
      signalGroup(child, "SIGKILL")
    }
    // what it wrote last comes right after its end; what it left running in the background is not waited for
    for (let round = 0; round < 5 && child.stdout?.readableEnded === false; round++) yield* Effect.sleep(20)
    for (const stream of [child.stdout, child.stderr]) stream?.destroy()
  })
