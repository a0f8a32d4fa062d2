/**
 * Runs one reconcile, bounded in time if that is asked for, and says what became of it.
 */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Inspectable from "effect/Inspectable"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import type { ControllerMetrics } from "../core/WatchMetrics.js"
import { update } from "../core/WatchMetrics.js"

/**
 * What a reconcile says when it succeeded. `requeueAfter`: when to look again at the latest; infinity is never, and what is no
 * duration, or below zero, a failure. The counts are for reports: what it
 * looked at, what of that it changed, and what it left out.
 */
export interface Result {
  readonly requeueAfter?: Duration.DurationInput | undefined
  readonly examined?: number | undefined
  readonly changed?: number | undefined
  readonly skipped?: number | undefined
}

/**
 * An error that trying again does not help: the next attempt is that of the next event. So is every error whose `isTerminal` is
 * true.
 *
 * **Example**
 * ```ts
 * import { Effect } from "effect"
 * import { Controller } from "effect-periscope/control"
 *
 * const reconcile = (manifest: string) =>
 *   manifest === "" ? Effect.fail(new Controller.Terminal({ message: "the manifest is empty" })) : Effect.void
 * ```
 */
export class Terminal extends Schema.TaggedError<Terminal>("effect-periscope/Terminal")("Terminal", {
  message: Schema.String,
  cause: Schema.optional(Schema.Defect)
}) {
  readonly isTerminal = true
}

/**
 * A reconcile took longer than its `timeout`.
 *
 * **Example**
 * ```ts
 * import { Cause } from "effect"
 * import { Controller } from "effect-periscope/control"
 *
 * const isTimeout = (cause: Cause.Cause<unknown>) => Cause.squash(cause) instanceof Controller.ReconcileTimeout
 * ```
 */
export class ReconcileTimeout extends Schema.TaggedError<ReconcileTimeout>("effect-periscope/ReconcileTimeout")(
  "ReconcileTimeout",
  { controller: Schema.String, timeoutMillis: Schema.Number }
) {
  override get message(): string {
    return `${this.controller}: not done within ${Duration.format(Duration.millis(this.timeoutMillis))}; raise \`timeout\` if that is normal`
  }
}

/** What became of it; an interruption from within is a failure. */
export type Ending =
  | { readonly _tag: "Succeeded"; readonly result: Result; readonly requeueMillis: number | undefined }
  | { readonly _tag: "Failed"; readonly cause: Cause.Cause<unknown> }
  | { readonly _tag: "Terminal"; readonly cause: Cause.Cause<unknown> }

const isTerminal = (error: unknown): boolean => Predicate.hasProperty(error, "isTerminal") && error.isTerminal === true

/** `Duration.decode` turns them into zero, and so into a reconcile without a pause. */
const isBelowZero = (input: unknown): boolean => {
  if (typeof input === "number") return !(input >= 0)
  if (typeof input === "bigint") return input < 0n
  if (typeof input === "string") return input.startsWith("-")
  return Array.isArray(input) && input.some(isBelowZero)
}

const succeeded = (result: Result): Ending => {
  const input: unknown = result.requeueAfter ?? undefined
  if (input === undefined) return { _tag: "Succeeded", result, requeueMillis: undefined }
  const decoded = isBelowZero(input) ? Option.none() : Duration.decodeUnknown(input)
  if (Option.isSome(decoded)) {
    const millis = Duration.toMillis(decoded.value)
    return { _tag: "Succeeded", result, requeueMillis: millis === Infinity ? undefined : millis }
  }
  const shown = typeof input === "string" ? JSON.stringify(input) : Inspectable.toStringUnknown(input, 0)
  const text = `\`requeueAfter\` of a reconcile is ${shown}; it must be a duration of zero or more, such as "30 seconds".`
  return { _tag: "Failed", cause: Cause.die(new Error(text)) }
}

export const endingOf = (exit: Exit.Exit<Result | void, unknown>): Ending => {
  if (Exit.isSuccess(exit)) return succeeded(exit.value ?? {})
  const { cause } = exit
  return { _tag: isTerminal(Cause.squash(cause)) ? "Terminal" : "Failed", cause }
}

/** The effect with its span and its timeout, which interrupts it and waits for its end: nothing is to run beside it. */
export const bounded = <E, R>(
  controller: string,
  span: string,
  reconcile: Effect.Effect<Result | void, E, R>,
  timeoutMillis: number | undefined
): Effect.Effect<Result | void, E | ReconcileTimeout, R> => {
  const options = { attributes: { "periscope.controller": controller }, captureStackTrace: false }
  const traced = Effect.withSpan(reconcile, span, options)
  if (timeoutMillis === undefined) return traced
  return Effect.timeoutFail(traced, {
    duration: timeoutMillis,
    onTimeout: () => new ReconcileTimeout({ controller, timeoutMillis })
  })
}

/** Counts it. */
export const measure = (metrics: ControllerMetrics, ending: Ending, millis: number): void => {
  update(metrics.reconcileTime, Math.max(0, millis) / 1000)
  if (ending._tag === "Succeeded") {
    const { reconciles } = metrics
    return update(ending.requeueMillis === undefined ? reconciles.success : reconciles.requeueAfter, 1)
  }
  update(metrics.reconciles.error, 1)
  update(metrics.errors, 1)
  if (ending._tag === "Terminal") update(metrics.terminalErrors, 1)
  const error = Cause.squash(ending.cause)
  if (error instanceof ReconcileTimeout) update(metrics.timeouts, 1)
  else if (Cause.isDie(ending.cause)) update(metrics.panics, 1)
}
