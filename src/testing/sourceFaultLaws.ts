/**
 * The laws of a source for polls that go wrong: that fail, hang, die or are interrupted.
 */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as Option from "effect/Option"
import type * as Scheduler from "effect/Scheduler"
import { inspect } from "node:util"
import { within } from "../core/within.js"
import type { Found, Violation } from "./sourceBench.js"
import { Bench, linesOf, Observer } from "./sourceBench.js"
import type { LawOptions, OnBench, Program } from "./sourcePrograms.js"
import { atEachState, onBenches, sharedAdvice, staleAdvice, worlds } from "./sourcePrograms.js"

/** Fails if what a poll shows when it goes wrong holds a secret. */
const holdsNoSecret = <A, E>(
  bench: Bench<A, E>,
  { secrets }: LawOptions<A, E>,
  where: string,
  shown: ReadonlyArray<unknown>
): Effect.Effect<void, Violation> => {
  const texts = shown.map((value) => `${String(value)} ${inspect(value, { depth: 8 })}`)
  const index = secrets.findIndex((secret) => texts.some((text) => text.includes(secret)))
  return index < 0
    ? Effect.void
    : Effect.fail(
        bench.violation(
          "secrets",
          `${where} without secrets`,
          `secret ${index + 1} of those given, in ${where}`,
          "Keep urls, queries, headers and bodies out of errors and states, and causes that hold them."
        )
      )
}

/** Tells of a poll that went wrong. */
type WentWrong = <A, E>(
  bench: Bench<A, E>,
  outcome: Exit.Exit<Found<A>, E> | "timeout",
  options: LawOptions<A, E>
) => Effect.Effect<void, Violation>

/** What happened in an outage: how many polls went wrong, and the faults that struck in polls that did not. */
interface Outage {
  readonly failures: number
  readonly unheard: ReadonlySet<string>
  readonly isComplete: boolean
}

/** Polls while faults strike, until an observation is complete or has failed for long. */
const outage = <A, E>(
  bench: Bench<A, E>,
  options: LawOptions<A, E>,
  observer: Observer<A, E>,
  wentWrong: WentWrong,
  meanwhile: () => void
): Effect.Effect<Outage, Violation> =>
  Effect.gen(function* () {
    const { definition } = bench
    const unheard = new Set<string>()
    let failures = 0
    for (let polls = 0; polls < 4; polls++) {
      const before = new Map(bench.fired)
      bench.isArmed = true
      const outcome = yield* bench.attempt(observer.state)
      bench.isArmed = false
      if (outcome !== "timeout" && Exit.isSuccess(outcome)) {
        for (const [kind, times] of bench.fired) if (times !== before.get(kind)) unheard.add(JSON.stringify(kind))
        yield* observer.accept(outcome.value)
        if (outcome.value.result.more !== true) return { failures, unheard, isComplete: true }
        continue
      }
      failures++
      yield* wentWrong(bench, outcome, options)
      const error =
        outcome === "timeout"
          ? definition.onTimeout?.(definition.timeout)
          : Option.getOrUndefined(Cause.failureOption(outcome.cause))
      observer.state = definition.recover(observer.state, error)
      meanwhile()
    }
    return { failures, unheard, isComplete: false }
  })

const unheardAdvice =
  "Let a call that fails fail its poll: an error, a bad status or half an answer is not an empty one."

/** How often each world is looked at for the first time while faults strike. */
const firstLooks = 3

/** Looks at a world of which nothing is known, so that a call that failed cannot pass for one that found nothing new. */
const firstLook = <A, E>(bench: Bench<A, E>, options: LawOptions<A, E>, wentWrong: WentWrong) =>
  Effect.gen(function* () {
    const observer = new Observer(bench)
    const { failures, isComplete, unheard } = yield* outage(bench, options, observer, wentWrong, () => {})
    // what is there of a log nobody but its head can tell
    if (!isComplete || options.mode === "log") return failures
    yield* Effect.mapError(observer.isCurrent("failure", unheardAdvice), ({ advice, expected, found, law }) =>
      bench.violation(
        law,
        `a poll that fails, or all that is there: ${expected}`,
        `with ${Array.from(unheard).join(", ")} it succeeds, and the first observation is complete with ${found}`,
        advice
      )
    )
    return failures
  })

/** The law that is broken without faults too, if what happened between the polls of a world is enough for that. */
const withoutFaults = <A, E>(
  options: LawOptions<A, E>,
  trial: number,
  changes: ReadonlyArray<number>
): Effect.Effect<void, Violation> =>
  Effect.gen(function* () {
    const bench = new Bench(options, trial)
    const observer = new Observer(bench)
    for (const times of changes) {
      bench.change(times)
      yield* observer.settle()
      yield* observer.isCurrent("current", staleAdvice)
    }
  })

/** Polls while faults strike, and tells of each that went wrong. */
const withFaults =
  (wentWrong: WentWrong): Program =>
  (options, tally) => {
    let failures = 0
    const once: OnBench = (bench, options) => {
      const changes: Array<number> = []
      let unheard: ReadonlySet<string> = new Set()
      const told = (found: Violation) =>
        found.law === "kinds" || found.law === "current"
          ? Effect.zipRight(
              withoutFaults(options, bench.trial, changes),
              bench.violation(
                "failure",
                found.expected,
                unheard.size > 0
                  ? `after ${Array.from(unheard).join(", ")} in a poll that succeeded: ${found.found}`
                  : `after a failed poll: ${found.found}`,
                unheard.size > 0 ? unheardAdvice : `${found.advice} ${sharedAdvice}`
              )
            )
          : Effect.fail(found)
      return Effect.gen(function* () {
        for (let first = 0; first < firstLooks; first++) failures += yield* firstLook(bench, options, wentWrong)
        const observer = new Observer(bench)
        for (let round = 0; round < bench.options.rounds; round++) {
          changes.push(round > 0 ? bench.change() : 0)
          const struck = yield* outage(bench, options, observer, wentWrong, () => {
            // the world goes on while the source is away
            if (bench.chance.happens(0.5)) changes[round]! += bench.change()
          })
          failures += struck.failures
          unheard = struck.unheard
          // what was begun before the last change is no look at it
          if (!struck.isComplete) yield* observer.observe()
          yield* observer.settle()
          yield* observer.isCurrent("current", staleAdvice)
          const again = yield* observer.observe()
          if (again.length > 0) {
            return yield* bench.violation("failure", "nothing new behind a failed poll", linesOf(again), sharedAdvice)
          }
        }
      }).pipe(Effect.catchAll(told))
    }
    return Effect.gen(function* () {
      yield* onBenches(once, 2 * worlds)(options, tally)
      if (failures > 0 || !options.hasFaults) return
      const bench = new Bench(options, 0)
      return yield* bench.violation(
        "failure",
        "polls that fail",
        "none failed",
        "Let the subject fail, hang and die where `stage.fault(kind, probability)` says so, or say `faults: false`."
      )
    })
  }

export const failure = withFaults((bench, outcome) => {
  const { onTimeout, timeout } = bench.definition
  if (outcome !== "timeout" || onTimeout !== undefined) return Effect.void
  return bench.violation(
    "timeout",
    "an error of the source, from its `onTimeout`",
    `a poll that hangs, and nothing to say so after ${Duration.format(timeout)}`,
    "Give `onTimeout`: without it a poll that takes too long is a defect, and no `retry` sees it."
  )
})

export const secrets: Program = (options, tally) =>
  options.secrets.length === 0
    ? Effect.void
    : Effect.gen(function* () {
        yield* withFaults((bench, outcome, options) => {
          const shown =
            outcome === "timeout"
              ? [bench.definition.onTimeout?.(bench.definition.timeout)]
              : Exit.isFailure(outcome)
                ? [Cause.pretty(outcome.cause), ...Cause.failures(outcome.cause), ...Cause.defects(outcome.cause)]
                : []
          return holdsNoSecret(bench, options, "an error", shown)
        })(options, tally)
        yield* onBenches(
          atEachState((bench, { state }, options) =>
            Effect.gen(function* () {
              yield* holdsNoSecret(bench, options, "the name", [bench.source.name, String(bench.definition.identity)])
              yield* holdsNoSecret(bench, options, "the saved state", [yield* bench.saved(state)])
            })
          )
        )(options, tally)
      })

/** Runs the fibers of one poll, counts their steps, and interrupts the first of them at one. */
class Stepper implements Scheduler.Scheduler {
  steps = 0
  root: Fiber.RuntimeFiber<unknown, unknown> | undefined

  constructor(
    private readonly base: Scheduler.Scheduler,
    private readonly interruptAt: number
  ) {}

  shouldYield(fiber: Fiber.RuntimeFiber<unknown, unknown>): number | false {
    if (++this.steps === this.interruptAt) this.root?.unsafeInterruptAsFork(FiberId.none)
    return this.base.shouldYield(fiber)
  }

  scheduleTask(task: Scheduler.Task, priority: number): void {
    this.base.scheduleTask(task, priority)
  }
}

const maxInterruptions = 40

export const interruption: OnBench = (bench) =>
  Effect.gen(function* () {
    const base = yield* Effect.withFiberRuntime<Scheduler.Scheduler>((fiber) => Effect.succeed(fiber.currentScheduler))
    const advice = "Acquire what a poll opens with `Effect.acquireRelease`, and fork within its scope only."
    /** Polls, interrupted at a step; gives how many steps it took and how it ended. */
    const interrupted = (state: unknown, at: number) =>
      Effect.gen(function* () {
        const stepper = new Stepper(base, at)
        const poll = Effect.withFiberRuntime<unknown, unknown>((fiber) => {
          stepper.root = fiber
          return Effect.ensuring(
            Effect.withScheduler(bench.observing(state), stepper),
            Effect.sync(() => void (stepper.root = undefined))
          )
        })
        let outcome = "" as string
        const left = yield* bench.leftovers(
          Effect.map(within(poll, Duration.toMillis(bench.definition.timeout)), (ended) => {
            outcome = typeof ended === "string" ? "it did not stop" : "it ended"
          })
        )
        return { steps: stepper.steps, left, outcome }
      })
    const observer = new Observer(bench)
    const rounds = Math.min(5, bench.options.rounds)
    for (let round = 0; round < rounds; round++) {
      if (round > 0) bench.change()
      const { state } = observer
      const reference = linesOf((yield* bench.poll(state)).changes)
      const { steps } = yield* interrupted(state, 0)
      const stride = Math.max(1, Math.ceil(steps / maxInterruptions))
      // each round begins elsewhere, so that steps left out here are taken there
      const start = (bench.trial * rounds + round) % stride
      for (let at = start; at <= steps; at += stride) {
        const { left, outcome } = yield* interrupted(state, at)
        const open = bench.subject.open?.() ?? 0
        if (left > 0 || open > 0 || outcome === "it did not stop") {
          return yield* bench.violation(
            "interruption",
            `nothing running and nothing open behind a poll${at > 0 ? ` that was interrupted at step ${at} of ${steps}` : ""}`,
            outcome === "it did not stop" ? outcome : `${left} sleeping fibers, ${open} things open`,
            advice
          )
        }
        const again = linesOf((yield* bench.poll(state)).changes)
        if (again === reference) continue
        return yield* bench.violation(
          "interruption",
          `behind a poll that was interrupted at step ${at} of ${steps}: ${reference}`,
          again,
          sharedAdvice
        )
      }
      yield* observer.settle()
    }
  })
