import { describe, expectTypeOf, it } from "@effect/vitest"
import type { Scope } from "effect"
import { Context, Effect, Schedule, Stream } from "effect"
import { Controller, Lagged, WorkQueue } from "effect-periscope/control"

class A extends Context.Tag("test/A")<A, { readonly a: number }>() {}
class B extends Context.Tag("test/B")<B, { readonly b: number }>() {}
class C extends Context.Tag("test/C")<C, { readonly c: number }>() {}

const watch = Stream.fromEffect(A)
const lagging: Stream.Stream<string | Lagged.Lagged> = Stream.make("a", Lagged.make(1))
const needy = Schedule.tapOutput(Schedule.forever, () => C)
// made in place, which TypeScript infers from where it is used too
const inPlace = Stream.concat(Stream.drain(Stream.fromEffect(Effect.sleep(1))), Stream.make(3))

/** What an effect asks for: nothing runs here. */
const services = <A, E, R>(_: Effect.Effect<A, E, R>): R => undefined as R

describe("control: types", () => {
  it("a controller asks for the services of its watches, its reconcile and its schedule", () => {
    const none = Controller.make([lagging, inPlace, Stream.concat(Stream.make("a"), Stream.never)], {
      name: "types",
      reconcile: Effect.void
    })
    expectTypeOf(services(none)).toEqualTypeOf<never>()
    const all = Controller.make([watch, lagging], { name: "types", reconcile: Effect.asVoid(B), retry: needy })
    expectTypeOf(services(all)).toEqualTypeOf<A | B | C>()
    const empty = Controller.make([], { name: "types", reconcile: Effect.void })
    expectTypeOf(services(empty)).toEqualTypeOf<never>()
    const keyed = Controller.keyed([watch, lagging], {
      name: "types",
      key: (event) => (typeof event === "string" ? event : event.a),
      reconcile: () => Effect.asVoid(B),
      resync: { keys: Effect.as(C, [1, "a"]) }
    })
    expectTypeOf(services(keyed)).toEqualTypeOf<A | B | C | Scope.Scope>()
  })

  it("events are those of all watches, without lags", () => {
    const options = {
      name: "types",
      filter: (event: unknown) => event !== undefined,
      reconcile: Effect.void
    }
    expectTypeOf<Controller.Event<readonly [typeof watch, typeof lagging]>>().toEqualTypeOf<
      string | { readonly a: number }
    >()
    Controller.make([Stream.concat(Stream.make("a"), Stream.never), inPlace], {
      ...options,
      filter: (event) => {
        expectTypeOf(event).toEqualTypeOf<string | number>()
        return true
      }
    }).pipe(Effect.isEffect)
  })

  it("keys are what `key` gives, and a layer needs no scope", () => {
    const keyed = Controller.keyed([Stream.concat(Stream.make("a"), Stream.never)], {
      name: "types",
      key: (event) => event.length,
      reconcile: (key) => {
        expectTypeOf(key).toEqualTypeOf<number>()
        return Effect.void
      }
    })
    expectTypeOf(keyed).toEqualTypeOf<Effect.Effect<Controller.KeyedController<number>, never, Scope.Scope>>()
    const queue = WorkQueue.make<string>({ name: "types" })
    expectTypeOf(queue).toEqualTypeOf<Effect.Effect<WorkQueue.WorkQueue<string>, never, Scope.Scope>>()
  })
})
