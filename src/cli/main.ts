/**
 * The command line from its arguments to its exit code.
 */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { readFileSync } from "node:fs"
import * as NodeClient from "../http/NodeClient.js"
import * as demo from "./demo.js"
import * as exec from "./exec.js"
import * as logger from "./logger.js"
import type { LogPlan } from "./logPlan.js"
import * as logPlan from "./logPlan.js"
import * as options from "./options.js"
import type { Plan } from "./plan.js"
import * as plan from "./plan.js"
import { Screen } from "./screen.js"
import * as signals from "./signals.js"
import type { TapPlan } from "./tapPlan.js"
import * as tapPlan from "./tapPlan.js"
import * as watching from "./watching.js"

/** Runs the command line of this process and ends it. */
export const main = (args: ReadonlyArray<string>): void => {
  const screen = new Screen(process.stdout, process.stderr, process.env)
  const program = args.length === 0 ? demonstrate(screen) : fromArguments(args, screen)
  Effect.runFork(
    program.pipe(
      Effect.catchAllCause((cause) =>
        Effect.as(
          Effect.sync(() => reportDefect(screen, cause)),
          1
        )
      ),
      Effect.zipLeft(screen.flushed),
      // what may still be open, such as a server's idle connection, must not hold the process back
      Effect.tap((code) => Effect.sync(() => process.exit(code)))
    )
  )
}

const reportDefect = (screen: Screen, cause: Cause.Cause<unknown>): void => {
  const detail = process.argv.includes("debug") ? `${Cause.pretty(cause, { renderErrorCause: true })}\n` : ""
  screen.show("")
  screen.note(
    `periscope: something unexpected happened; run it with --log-level debug and report what it says.\n${detail}`
  )
}

const fromArguments = (args: ReadonlyArray<string>, screen: Screen): Effect.Effect<number> => {
  const given = options.parse(args)
  if (Either.isLeft(given)) return usage(screen, given.left)
  if (given.right.help) return print(screen, options.help())
  if (given.right.version) return print(screen, `${version()}\n`)
  if (given.right.positionals[0] === "log") {
    const asked = logPlan.make(given.right, process.stdin.isTTY !== true)
    return Either.isLeft(asked) ? usage(screen, asked.left) : runLog(asked.right, screen)
  }
  if (given.right.positionals[0] === "tap") {
    const asked = tapPlan.make(given.right, process.env, process.stdin.isTTY !== true)
    return Either.isLeft(asked) ? usage(screen, asked.left) : runTap(asked.right, screen)
  }
  const planned = plan.make(given.right, process.env)
  return Either.isLeft(planned) ? usage(screen, planned.left) : execute(planned.right, screen)
}

const usage = (screen: Screen, sentence: string): Effect.Effect<number> =>
  Effect.as(
    Effect.sync(() => screen.note(`periscope: ${sentence}.\n`.replace(/([?.])\.\n$/, "$1\n"))),
    2
  )

const print = (screen: Screen, text: string): Effect.Effect<number> =>
  Effect.match(screen.write(text), { onSuccess: () => 0, onFailure: ({ isClosed }) => (isClosed ? 0 : 1) })

const version = (): string =>
  String(JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")).version)

const execute = (planned: Plan, screen: Screen): Effect.Effect<number> =>
  Effect.gen(function* () {
    const stop = yield* stopOnSignal(screen)
    return yield* watching.run(planned, screen, stop)
  }).pipe(Effect.provide([NodeClient.layer(), logger.layer(screen, planned.logLevel)]))

const runLog = (asked: LogPlan, screen: Screen): Effect.Effect<number> =>
  Effect.flatMap(
    Effect.promise(() => import("./logCommand.js")),
    (logCommand) => logCommand.run(asked, screen)
  ).pipe(Effect.provide(logger.layer(screen, asked.logLevel)))

const runTap = (asked: TapPlan, screen: Screen): Effect.Effect<number> =>
  Effect.flatMap(
    Effect.promise(() => import("./tapCommand.js")),
    (tapCommand) => {
      const problem = tapCommand.problemOf(asked)
      return problem === undefined ? tapCommand.run(asked, screen) : usage(screen, problem)
    }
  ).pipe(Effect.provide([NodeClient.layer(), logger.layer(screen, asked.logLevel)]))

const demonstrate = (screen: Screen): Effect.Effect<number> =>
  Effect.gen(function* () {
    const stop = yield* stopOnSignal(screen)
    return yield* demo.run(screen, stop)
  }).pipe(Effect.provide([NodeClient.layer({ proxy: "none" }), logger.layer(screen, "warning")]))

/** Done with the first SIGINT or SIGTERM; a second one ends the process. */
const stopOnSignal = (screen: Screen): Effect.Effect<Deferred.Deferred<void>> =>
  Effect.tap(Deferred.make<void>(), (stop) =>
    Effect.sync(() =>
      signals.handle(
        () => Deferred.unsafeDone(stop, Effect.void),
        () => {
          exec.killAll()
          screen.show("")
          process.exit(0)
        }
      )
    )
  )
