import { describe, expectTypeOf, it } from "@effect/vitest"
import type { Cause, Layer, Scope, Stream, Subscribable } from "effect"
import { Context, Effect, Schedule, Schema } from "effect"
import type { Change, Checkpoints } from "effect-periscope"
import { Backoff, Source, Watcher } from "effect-periscope"

interface Port {
  readonly _: unique symbol
}
interface Clock {
  readonly _: unique symbol
}
interface Plain {
  readonly _tag: "Plain"
}
interface Http {
  readonly _tag: "Http"
  readonly isRetryable: boolean
}
interface Gone {
  readonly _tag: "Gone"
  readonly isFatal: true
}
interface Maybe {
  readonly _tag: "Maybe"
  readonly isFatal: boolean
}
interface Never {
  readonly _tag: "Never"
  readonly isFatal: false
}

declare const source: Source.Source<number, Plain | Http | Gone | Maybe | Never, Port>
declare const http: Source.Source<number, Http, Port>
declare const infallible: Source.Source<number>
declare const needy: Schedule.Schedule<number, unknown, Clock>

const none = () => Effect.void
type E<T> = T extends Effect.Effect<infer _A, infer E, infer _R> ? E : never
type R<T> = T extends Effect.Effect<infer _A, infer _E, infer R> ? R : never
type WatchE<T> = T extends Effect.Effect<Watcher.Watcher<infer _A, infer E>, infer _E, infer _R> ? E : never
type StreamE<T> = T extends Stream.Stream<infer _A, infer E, infer _R> ? E : never
type StreamR<T> = T extends Stream.Stream<infer _A, infer _E, infer R> ? R : never
type LayerR<T> = T extends Layer.Layer<infer _A, infer _E, infer R> ? R : never
type All = Plain | Http | Gone | Maybe | Never
/** Ends a watch, or may. */
type Fatal = Gone | Maybe

const given = (_: unknown): void => {}

/** Types only: nothing of it is run. */
const check = (_: () => void): void => {}

describe("types of Watcher", () => {
  it("W4 without `retry` only what is fatal by its type comes out", () =>
    check(() => {
      const _make = Watcher.make(source)
      expectTypeOf<WatchE<typeof _make>>().toEqualTypeOf<Fatal>()
      expectTypeOf<R<typeof _make>>().toEqualTypeOf<Port | Scope.Scope>()
      expectTypeOf<E<typeof _make>>().toEqualTypeOf<never>()
      const _quiet = Watcher.make(http, { interval: "1 second" })
      expectTypeOf<WatchE<typeof _quiet>>().toEqualTypeOf<never>()
      const _run = Watcher.runForEach(source, none)
      expectTypeOf<E<typeof _run>>().toEqualTypeOf<Fatal>()
      expectTypeOf<R<typeof _run>>().toEqualTypeOf<Port>()
      const _changes = Watcher.changes(http)
      expectTypeOf(_changes).toEqualTypeOf<Stream.Stream<Change.Change<number>, never, Port>>()
      const _batches = Watcher.batches(source)
      expectTypeOf<StreamE<typeof _batches>>().toEqualTypeOf<Fatal>()
      const latest = Watcher.latest(source)
      expectTypeOf(latest).toEqualTypeOf<
        Effect.Effect<Subscribable.Subscribable<number, Fatal>, Fatal, Port | Scope.Scope>
      >()
      expectTypeOf(Watcher.changes(infallible)).toEqualTypeOf<Stream.Stream<Change.Change<number>>>()
    }))

  it("W4 with `retry` all errors come out, and `once` has one", () =>
    check(() => {
      const retry = Schedule.recurs(3)
      const _run = Watcher.runForEach(source, none, { retry })
      expectTypeOf<E<typeof _run>>().toEqualTypeOf<All>()
      const _changes = Watcher.changes(source, { retry: Backoff.make({ first: "1 second", max: "1 minute" }) })
      expectTypeOf<StreamE<typeof _changes>>().toEqualTypeOf<All>()
      const _off = Watcher.changes(source, { retry: undefined })
      expectTypeOf<StreamE<typeof _off>>().toEqualTypeOf<Fatal>()
      const once = Watcher.once(source)
      expectTypeOf(once).toEqualTypeOf<Effect.Effect<ReadonlyArray<Change.Change<number>>, All, Port>>()
      // @ts-expect-error a schedule for another error
      given(Watcher.changes(http, { retry: Schedule.recurWhile((error: Plain) => error._tag === "Plain") }))
      // the schedule sees the source's error
      given(Watcher.changes(http, { retry: Schedule.recurWhile((error: Http) => error.isRetryable) }))
    }))

  it("CheckpointError and Checkpoints are there only with a checkpoint", () =>
    check(() => {
      const _run = Watcher.runForEach(http, none, { checkpoint: "c" })
      expectTypeOf<E<typeof _run>>().toEqualTypeOf<Checkpoints.CheckpointError>()
      expectTypeOf<R<typeof _run>>().toEqualTypeOf<Port | Checkpoints.Checkpoints>()
      const _batches = Watcher.batches(source, { checkpoint: "c" })
      expectTypeOf<StreamE<typeof _batches>>().toEqualTypeOf<Fatal | Checkpoints.CheckpointError>()
      expectTypeOf<StreamR<typeof _batches>>().toEqualTypeOf<Port | Checkpoints.Checkpoints>()
      const _none = Watcher.batches(http, { checkpoint: undefined })
      expectTypeOf<StreamE<typeof _none>>().toEqualTypeOf<never>()
      expectTypeOf<StreamR<typeof _none>>().toEqualTypeOf<Port>()
      // @ts-expect-error a live view has nothing to commit
      given(Watcher.changes(http, { checkpoint: "c" }))
      // @ts-expect-error as has the newest value
      given(Watcher.latest(http, { checkpoint: "c" }))
    }))

  it("optional keys, spread options and variables of type Options never hide what may be needed", () =>
    check(() => {
      const optional = {} as { readonly checkpoint?: string }
      const _run = Watcher.runForEach(http, none, optional)
      expectTypeOf<E<typeof _run>>().toEqualTypeOf<Checkpoints.CheckpointError>()
      expectTypeOf<R<typeof _run>>().toEqualTypeOf<Port | Checkpoints.Checkpoints>()
      const _spread = Watcher.runForEach(http, none, { ...optional, interval: "1 second" })
      expectTypeOf<R<typeof _spread>>().toEqualTypeOf<Port | Checkpoints.Checkpoints>()
      const spreadRetry = {} as { readonly retry?: Schedule.Schedule<unknown, All> }
      const _retried = Watcher.runForEach(source, none, { ...spreadRetry })
      expectTypeOf<E<typeof _retried>>().toEqualTypeOf<All>()
      const variable = {} as Watcher.Options<Http>
      const _any = Watcher.make(http, variable)
      expectTypeOf<WatchE<typeof _any>>().toEqualTypeOf<Http | Checkpoints.CheckpointError>()
      expectTypeOf<R<typeof _any>>().toEqualTypeOf<Port | Checkpoints.Checkpoints | Scope.Scope>()
      const either = {} as { readonly checkpoint: string } | { readonly interval: number }
      const _union = Watcher.make(http, either)
      expectTypeOf<R<typeof _union>>().toEqualTypeOf<Port | Checkpoints.Checkpoints | Scope.Scope>()
    }))

  it("what schedules need is needed", () =>
    check(() => {
      const _run = Watcher.runForEach(http, none, { schedule: needy })
      expectTypeOf<R<typeof _run>>().toEqualTypeOf<Port | Clock>()
      const _retried = Watcher.changes(http, { retry: needy })
      expectTypeOf<StreamR<typeof _retried>>().toEqualTypeOf<Port | Clock>()
      const _handled = Watcher.runForEach(http, () => Effect.fail("no" as const), { handlerRetry: needy })
      expectTypeOf<R<typeof _handled>>().toEqualTypeOf<Port | Clock>()
      const variable = {} as Watcher.Options<Http, Clock>
      const _any = Watcher.make(http, variable)
      expectTypeOf<R<typeof _any>>().toEqualTypeOf<Port | Clock | Checkpoints.Checkpoints | Scope.Scope>()
    }))

  it("a handler's error and services come out, also with none but its own options", () =>
    check(() => {
      const handler = (_: Change.Change<number>) => ({}) as Effect.Effect<string, "broken", Clock>
      const _run = Watcher.runForEach(http, handler, { onFailure: "park" })
      expectTypeOf<E<typeof _run>>().toEqualTypeOf<"broken">()
      expectTypeOf<R<typeof _run>>().toEqualTypeOf<Port | Clock>()
      const _both = Watcher.runForEach(source, handler, { concurrency: 3, interval: "1 second" })
      expectTypeOf<E<typeof _both>>().toEqualTypeOf<"broken" | Fatal>()
      const _batch = Watcher.runForEachBatch(http, () => ({}) as Effect.Effect<void, "broken", Clock>, {
        handlerRetry: Schedule.recurs(1)
      })
      expectTypeOf<E<typeof _batch>>().toEqualTypeOf<"broken">()
      expectTypeOf<R<typeof _batch>>().toEqualTypeOf<Port | Clock>()
      const _ordered = Watcher.runForEach(http, handler, { checkpoint: "c", orderBy: (change) => change.key })
      expectTypeOf<R<typeof _ordered>>().toEqualTypeOf<Port | Clock | Checkpoints.Checkpoints>()
      // @ts-expect-error an option that does not exist
      given(Watcher.runForEach(http, handler, { intervall: "1 second" }))
    }))

  it("layers: needs without Scope, `onStop` is given what may end the watch", () =>
    check(() => {
      const handler = () => ({}) as Effect.Effect<void, "broken", Clock>
      const _plain = Watcher.layer(http, handler)
      expectTypeOf<LayerR<typeof _plain>>().toEqualTypeOf<Port | Clock>()
      const _stops = Watcher.layer(source, handler, {
        checkpoint: "c",
        onStop: (cause) => {
          expectTypeOf(cause).toEqualTypeOf<Cause.Cause<Fatal | Checkpoints.CheckpointError | "broken">>()
          return Effect.void
        }
      })
      expectTypeOf<LayerR<typeof _stops>>().toEqualTypeOf<Port | Clock | Checkpoints.Checkpoints>()
    }))

  it("tags are sources: their service is what is needed", () =>
    check(() => {
      class Numbers extends Source.Tag("test/Numbers")<Numbers, number, Http | Gone>() {}
      const _run = Watcher.runForEach(Numbers, none)
      expectTypeOf<E<typeof _run>>().toEqualTypeOf<Gone>()
      expectTypeOf<R<typeof _run>>().toEqualTypeOf<Numbers>()
      const _changes = Watcher.changes(Numbers, { retry: Schedule.recurs(1) })
      expectTypeOf(_changes).toEqualTypeOf<Stream.Stream<Change.Change<number>, Http | Gone, Numbers>>()
      const layer = Source.layer(Numbers, http)
      expectTypeOf(layer).toEqualTypeOf<Layer.Layer<Numbers, never, Port>>()
      // an error that is not one of the tag's
      expectTypeOf(source).not.toMatchTypeOf<Source.Source<number, Http | Gone, Port>>()
    }))
})

describe("types of Source", () => {
  class Api extends Context.Tag("test/Api")<Api, { readonly get: Effect.Effect<number, Http> }>() {}

  it("constructors carry the errors and services of their functions", () =>
    check(() => {
      const made = Source.make({
        name: "s",
        state: Schema.Number,
        item: Schema.NumberFromString,
        initial: 0,
        poll: (state) => Effect.flatMap(Api, ({ get }) => Effect.map(get, (n) => ({ changes: [], state: state + n })))
      })
      expectTypeOf(made).toEqualTypeOf<Source.Source<number, Http, Api>>()
      const listed = Source.fromListing({
        name: "s",
        item: Schema.String,
        key: (item) => item,
        list: (_page: number | undefined) => Effect.flatMap(Api, ({ get }) => Effect.as(get, { items: ["a"], next: 1 }))
      })
      expectTypeOf(listed).toEqualTypeOf<Source.Source<string, Http | Source.ListingError, Api>>()
      const log = Source.fromLog({
        name: "s",
        item: Schema.String,
        cursor: Schema.BigInt,
        initial: 0n,
        read: () => Effect.flatMap(Api, ({ get }) => Effect.as(get, [])),
        head: Effect.succeed(5n)
      })
      expectTypeOf(log).toEqualTypeOf<Source.Source<string, Http, Api>>()
      const memory = Source.memory<number, Plain>()
      expectTypeOf(memory).toEqualTypeOf<Effect.Effect<Source.MemorySource<number, Plain>>>()
    }))

  it("operators add theirs, in both call styles", () =>
    check(() => {
      expectTypeOf(Source.map(http, String)).toEqualTypeOf<Source.Source<string, Http, Port>>()
      expectTypeOf(http.pipe(Source.map((n) => n > 1))).toEqualTypeOf<Source.Source<boolean, Http, Port>>()
      const effectful = http.pipe(
        Source.mapEffect((n) =>
          Effect.as(
            Effect.flatMap(Api, ({ get }) => get),
            String(n)
          )
        )
      )
      expectTypeOf(effectful).toEqualTypeOf<Source.Source<string, Http, Port | Api>>()
      expectTypeOf(Source.filter(http, (n) => n > 1)).toEqualTypeOf<Source.Source<number, Http, Port>>()
      const provided = Source.provideContext(http, {} as Context.Context<Port>)
      expectTypeOf(provided).toEqualTypeOf<Source.Source<number, Http>>()
    }))
})
