import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Metric, Option, Schedule, TestClock, Tracer } from "effect"
import { Source, Watcher, WatchMetrics } from "effect-periscope"

const count = (metric: Metric.Metric.Counter<number>) => Effect.map(Metric.value(metric), (state) => state.count)

describe("WatchMetrics", () => {
  it.effect("E1 metrics exist at zero before anything was watched, and count from there", () =>
    Effect.gen(function* () {
      const names = new Set((yield* Metric.snapshot).map(({ metricKey }) => metricKey.name))
      for (const name of [
        "polls_total",
        "poll_duration_millis",
        "changes_total",
        "guard_trips_total",
        "watchers",
        "informer_items",
        "informer_lagged_events_total"
      ]) {
        assert.isTrue(names.has(`periscope_${name}`), name)
      }
      assert.strictEqual(yield* count(WatchMetrics.polls.succeeded), 0)
      assert.strictEqual(yield* count(WatchMetrics.changes.Removed), 0)
      const memory = yield* Source.memory<number, "down">()
      yield* memory.set("a", 1)
      yield* Watcher.once(memory)
      yield* memory.fail("down")
      yield* Effect.flip(Watcher.once(memory))
      assert.strictEqual(yield* count(WatchMetrics.polls.succeeded), 1)
      assert.strictEqual(yield* count(WatchMetrics.changes.Added), 1)
      assert.strictEqual((yield* Metric.value(WatchMetrics.pollDuration)).count, 2)
    })
  )

  it.effect("E1 W8 what one source does goes away with its watcher", () =>
    Effect.gen(function* () {
      const memory = yield* Source.memory<number, "down">({ name: "mine" })
      const fiber = yield* Effect.fork(Watcher.runForEach(memory, () => Effect.void, { interval: "10 seconds" }))
      yield* TestClock.adjust("4 seconds")
      const [live] = yield* WatchMetrics.watchers
      assert.deepStrictEqual([live?.source, live?.stalenessMillis], ["mine", Option.some(4000)])
      yield* memory.fail("down")
      yield* TestClock.adjust("7 seconds")
      const [failing] = yield* WatchMetrics.watchers
      assert.deepStrictEqual([failing?.consecutiveFailures, failing?.backoffMillis], [1, 19_000])
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(yield* WatchMetrics.watchers, [])
      assert.strictEqual((yield* Metric.value(WatchMetrics.watcherCount)).value, 0)
    })
  )

  it.effect("E2 a poll is a span that names its source, an event is none", () =>
    Effect.gen(function* () {
      const spans: Array<Tracer.Span> = []
      const tracer = Tracer.make({
        span: (name, parent, context, links, startTime, kind) => {
          const span = new Recorded(name, parent, context, links, startTime, kind)
          spans.push(span)
          return span
        },
        context: (execute) => execute()
      })
      const memory = yield* Source.memory<number>({ name: "mine" })
      for (const key of ["a", "b", "c"]) yield* memory.set(key, 1)
      yield* Watcher.runForEach(memory, () => Effect.void, { schedule: Schedule.recurs(1) }).pipe(
        Effect.withTracer(tracer)
      )
      assert.deepStrictEqual(
        spans.map((span) => [span.name, span.attributes.get("periscope.source"), span.status._tag]),
        Array.from({ length: 2 }, () => ["Watcher.poll", "mine", "Ended"])
      )
    })
  )
})

class Recorded implements Tracer.Span {
  readonly _tag = "Span"
  readonly spanId = "span"
  readonly traceId = "trace"
  readonly sampled = true
  readonly attributes = new Map<string, unknown>()
  status: Tracer.SpanStatus
  constructor(
    readonly name: string,
    readonly parent: Option.Option<Tracer.AnySpan>,
    readonly context: Tracer.Span["context"],
    readonly links: ReadonlyArray<Tracer.SpanLink>,
    startTime: bigint,
    readonly kind: Tracer.SpanKind
  ) {
    this.status = { _tag: "Started", startTime }
  }
  end(endTime: bigint, exit: Parameters<Tracer.Span["end"]>[1]): void {
    this.status = { _tag: "Ended", startTime: this.status.startTime, endTime, exit }
  }
  attribute(key: string, value: unknown): void {
    this.attributes.set(key, value)
  }
  event(): void {}
  addLinks(): void {}
}
