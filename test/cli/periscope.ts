/**
 * Runs the compiled command line as a process of its own.
 *
 *   const cli = yield* start(["watch", server.url(), "--interval", "20ms"])  // killed with the scope
 *   yield* cli.until(() => cli.lines().length === 2)
 *   cli.kill("SIGTERM")
 *   const { code, stderr } = yield* cli.ended
 */
import { assert } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { execFileSync, spawn } from "node:child_process"
import { mkdirSync, mkdtempSync, readFileSync, rmdirSync, rmSync, statSync } from "node:fs"
import { tmpdir } from "node:os"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("../..", import.meta.url))
/** The compiled command. */
export const bin = `${root}dist/cli/bin.js`

/** What a line of NDJSON holds. */
export interface Line {
  readonly id: string
  readonly type: "Added" | "Modified" | "Removed"
  readonly source: string
  readonly key: string
  readonly value?: Readonly<Record<string, unknown>>
  readonly previous?: Readonly<Record<string, unknown>>
  readonly observedAt: string
  readonly redelivered?: true
}

export interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
  /** From the start of the process to its end. */
  readonly millis: number
}

export interface Periscope {
  readonly pid: number
  readonly stdout: () => string
  readonly stderr: () => string
  /** The lines that were printed so far. */
  readonly lines: () => ReadonlyArray<Line>
  readonly kill: (signal: NodeJS.Signals) => void
  /** Closes our end of its stdout. */
  readonly closeStdout: () => void
  readonly hasEnded: () => boolean
  /** Waits for the end of the process; a command that it started may still write to its outputs. */
  readonly exited: Effect.Effect<void>
  /** Waits for the end of the process and of its outputs. */
  readonly ended: Effect.Effect<Ended>
  /** Waits for something, at most 10 seconds. */
  readonly until: (what: () => boolean) => Effect.Effect<void>
}

/** Waits, in real time and at most 10 seconds, until something is so. */
export const eventually = (what: () => boolean, context: () => string = () => ""): Effect.Effect<void> =>
  Effect.sync(what).pipe(
    Effect.delay("10 millis"),
    Effect.repeat({ until: (done) => done }),
    Effect.timeoutOption("10 seconds"),
    Effect.map((done) => assert.isTrue(Option.isSome(done), `still not so after 10 seconds: ${what}\n${context()}`))
  )

/** Compiles `src`, one test file after the other: each worker may be the first to come. */
const build: Effect.Effect<void> = Effect.gen(function* () {
  const lock = `${root}.generated/cli-build`
  mkdirSync(`${root}.generated`, { recursive: true })
  const take = Effect.sync(() => {
    try {
      mkdirSync(lock)
      return true
    } catch {
      const since = statSync(lock, { throwIfNoEntry: false })?.mtimeMs ?? Date.now()
      if (Date.now() - since > 60_000) rmSync(lock, { recursive: true, force: true })
      return false
    }
  })
  yield* Effect.repeat(Effect.delay(take, "20 millis"), { until: (taken) => taken })
  try {
    execFileSync(process.execPath, [`${root}node_modules/typescript/bin/tsc`, "-b", `${root}src`], { stdio: "pipe" })
  } finally {
    rmdirSync(lock)
  }
})

let isBuilt = false

/** Whatever the machine's environment says about proxies and colours does not matter to the tests. */
const environment = (own: Readonly<Record<string, string>>): NodeJS.ProcessEnv => ({
  ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !/proxy|color|^NODE_OPTIONS$/i.test(name))),
  ...own
})

export const start = (
  args: ReadonlyArray<string>,
  env: Readonly<Record<string, string>> = {},
  input = ""
): Effect.Effect<Periscope, never, Scope.Scope> =>
  Effect.gen(function* () {
    if (!isBuilt) yield* build
    isBuilt = true
    const ended = yield* Deferred.make<Ended>()
    const startedAt = Date.now()
    const output = { stdout: "", stderr: "" }
    const child = yield* Effect.acquireRelease(
      Effect.sync(() => spawn(process.execPath, [bin, ...args], { env: environment(env), stdio: "pipe" })),
      (child) => Effect.sync(() => child.kill("SIGKILL"))
    )
    // it need not read its input
    child.stdin.on("error", () => {})
    child.stdin.end(input)
    for (const name of ["stdout", "stderr"] as const) {
      child[name].setEncoding("utf8")
      child[name].on("data", (text: string) => void (output[name] += text))
      child[name].on("error", () => {})
    }
    const exited = yield* Deferred.make<void>()
    let hasExited = false
    child.once("exit", () => {
      hasExited = true
      Deferred.unsafeDone(exited, Effect.void)
    })
    const finish = (code: number | null, signal: NodeJS.Signals | null) =>
      Deferred.unsafeDone(ended, Effect.succeed({ code, signal, ...output, millis: Date.now() - startedAt }))
    child.once("close", finish)
    const periscope: Periscope = {
      pid: child.pid!,
      stdout: () => output.stdout,
      stderr: () => output.stderr,
      lines: () =>
        output.stdout
          .split("\n")
          .slice(0, -1)
          .map((line) => JSON.parse(line) as Line),
      kill: (signal) => void child.kill(signal),
      closeStdout: () => void child.stdout.destroy(),
      hasEnded: () => hasExited,
      exited: Deferred.await(exited),
      ended: Effect.timeoutOption(Deferred.await(ended), "25 seconds").pipe(
        Effect.map(
          Option.getOrElse(() => assert.fail(`still running\nstdout: ${output.stdout}\nstderr: ${output.stderr}`))
        )
      ),
      until: (what) => eventually(what, () => `stdout: ${output.stdout}\nstderr: ${output.stderr}`)
    }
    return periscope
  })

/** Runs it to its end. */
export const run = (
  args: ReadonlyArray<string>,
  env: Readonly<Record<string, string>> = {},
  input = ""
): Effect.Effect<Ended> => Effect.scoped(Effect.flatMap(start(args, env, input), ({ ended }) => ended))

/** A folder that goes with the scope. */
export const folder: Effect.Effect<string, never, Scope.Scope> = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(`${tmpdir()}/periscope-`)),
  (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true }))
)

/** What is in a file; "" if there is none. */
export const contents = (file: string): string =>
  statSync(file, { throwIfNoEntry: false }) === undefined ? "" : readFileSync(file, "utf8")

export const parsed = (stdout: string): ReadonlyArray<Line> =>
  stdout
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as Line)
