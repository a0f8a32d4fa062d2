/**
 * The options of a watch, and what they say about its error and its services.
 */
import type * as Duration from "effect/Duration"
import type * as Schedule from "effect/Schedule"
import type { CheckpointError, Checkpoints } from "./Checkpoints.js"

/**
 * How a source is watched. `E` is the source's error, `R` what the schedules need.
 */
export interface Options<in E = never, out R = never> {
  /** The pause between the end of a delivery and the next poll [30 seconds]. */
  readonly interval?: Duration.DurationInput | undefined
  /** Decides the pauses instead of `interval`; the watch ends when it ends. */
  readonly schedule?: Schedule.Schedule<unknown, unknown, R> | undefined
  /** Decides over failed polls instead of doubling the interval; the watch fails with the last error when it ends. */
  readonly retry?: Schedule.Schedule<unknown, E, R> | undefined
  /** The longest wait after failed polls, without `retry` [32 times the interval]. */
  readonly maxBackoff?: Duration.DurationInput | undefined
  /** The longest wait that an error's `retryAfter` can ask for [1 hour]. */
  readonly maxRetryAfter?: Duration.DurationInput | undefined
  /** Bound of one poll [the source's own, 2 minutes]. */
  readonly timeout?: Duration.DurationInput | undefined
  /** `"emit"` reports what is there at first sight as Added, `"suppress"` takes it as known [`"emit"`]. */
  readonly initial?: "emit" | "suppress" | undefined
  /** The first poll waits a random part of it, so that a fleet does not poll at once [zero]. */
  readonly initialJitter?: Duration.DurationInput | undefined
  /** Keeps state and undelivered changes under this name in `Checkpoints` [in memory]. */
  readonly checkpoint?: string | undefined
  /** The most changes of one batch [all of one poll]. */
  readonly batchSize?: number | undefined
  /** How many batches may be handed out, counted from the first uncommitted one; then polling waits [16]. */
  readonly maxInFlight?: number | undefined
  /** How many changes may be parked; then a failing handler stops the watch [1000]. */
  readonly maxParked?: number | undefined
  /** How long a new state without changes may stay unsaved [1 minute]. */
  readonly saveInterval?: Duration.DurationInput | undefined
  /** Bound of one save [30 seconds]. */
  readonly saveTimeout?: Duration.DurationInput | undefined
}

/** Whether an option is given, or may be: with one member of a union it may be. */
type Has<O, K extends string> = true extends HasEach<O, K> ? true : false

type HasEach<O, K extends string> = O extends unknown
  ? K extends keyof O
    ? Exclude<O[K & keyof O], undefined> extends never
      ? false
      : true
    : false
  : never

/** Of the errors, those that end a watch: `isFatal` is true by their type, or may be. */
type Fatal<E> = E extends unknown
  ? "isFatal" extends keyof E
    ? true extends E["isFatal" & keyof E]
      ? E
      : never
    : never
  : never

/**
 * The error of a watch: without `retry` only what is fatal by its type, with `retry` all of the source's errors; with
 * `checkpoint` also {@link CheckpointError}.
 */
export type Failure<E, O> =
  (Has<O, "retry"> extends true ? E : Fatal<E>) | (Has<O, "checkpoint"> extends true ? CheckpointError : never)

/**
 * The services that the options of a watch ask for.
 */
export type Services<O> =
  | (Has<O, "checkpoint"> extends true ? Checkpoints : never)
  | (O extends { readonly schedule?: Schedule.Schedule<infer _A, infer _I, infer R> | undefined } ? Known<R> : never)
  | (O extends { readonly retry?: Schedule.Schedule<infer _A, infer _I, infer R> | undefined } ? Known<R> : never)

export type AnySchedule = Schedule.Schedule<unknown, unknown, unknown>

/** The options that decide over error and services. */
export interface Told<C, S, T> {
  readonly checkpoint?: C
  readonly schedule?: S
  readonly retry?: T
}

/**
 * Options from which each of those three is inferred by itself: TypeScript infers nothing for the type of an object as a
 * whole if one of its functions, an `onStop` for example, takes its parameter's type from it.
 */
export type Telling<E, C, S, T> = Omit<Options<E, unknown>, keyof Told<C, S, T>> & {
  readonly checkpoint?: C | undefined
  readonly schedule?: S | undefined
  readonly retry?: T | undefined
}

type Known<R> = unknown extends R ? never : R
