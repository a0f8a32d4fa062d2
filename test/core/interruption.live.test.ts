/**
 * Goal: wherever an interruption strikes, nothing runs on. Method: a scheduler that interrupts the fiber at its n-th step, for each n
 * up to behind the first poll.
 */
import { assert, describe, it } from "@effect/vitest"
import type * as Undici from "@effect/platform-node/Undici"
import { Effect, Fiber, FiberId, Scheduler, Schema } from "effect"
import { Source, Watcher } from "effect-periscope"
import * as transport from "../../src/http/transport.js"
import * as undiciTransport from "../../src/http/undiciTransport.js"

/** Interrupts the first fiber that it runs before its step of that number. */
const interruptAt = (step: number): Scheduler.Scheduler => {
  const base = new Scheduler.MixedScheduler(2048)
  let steps = 0
  let first: unknown
  return {
    shouldYield: (fiber) => {
      first ??= fiber
      if (fiber !== first || ++steps !== step + 1) return false
      fiber.unsafeInterruptAsFork(FiberId.none)
      return 0
    },
    scheduleTask: (task, priority) => base.scheduleTask(task, priority)
  }
}

describe("interruption at every step", () => {
  it.live("W7 of a watcher leaves no poll running, and none comes after it", () =>
    Effect.gen(function* () {
      const wrong: Array<string> = []
      for (let step = 0; step < 120; step++) {
        let running = 0
        let polls = 0
        const source = Source.make({
          name: "source",
          state: Schema.Number,
          item: Schema.String,
          initial: 0,
          poll: (state: number) =>
            Effect.acquireUseRelease(
              Effect.sync(() => {
                running++
                polls++
              }),
              () => Effect.as(Effect.sleep("2 millis"), { changes: [], state }),
              () => Effect.sync(() => void running--)
            )
        })
        const watch = Watcher.runForEach(source, () => Effect.void, { interval: "3 millis" })
        const fiber = Effect.runFork(watch, { scheduler: interruptAt(step) })
        yield* Effect.sleep("12 millis")
        yield* Fiber.interrupt(fiber)
        const before = polls
        if (running !== 0) wrong.push(`step ${step}: ${running} polls run on`)
        yield* Effect.sleep("6 millis")
        if (polls !== before) wrong.push(`step ${step}: polled again`)
      }
      assert.deepEqual(wrong, [])
    })
  )

  it.live("W7 of a consumer leaves its place free for the next one", () =>
    Effect.gen(function* () {
      for (let step = 0; step < 40; step++) {
        const source = yield* Source.memory<string>()
        yield* source.set("key", "value")
        yield* Effect.scoped(
          Effect.gen(function* () {
            const watcher = yield* Watcher.make(source, { interval: "3 millis" })
            const first = Effect.runFork(
              watcher.runForEach(() => Effect.never),
              { scheduler: interruptAt(step) }
            )
            yield* Effect.sleep("2 millis")
            yield* Fiber.interrupt(first)
            const second = yield* Effect.either(
              Effect.timeout(
                watcher.runForEach(() => Effect.fail("handled")),
                "5 seconds"
              )
            )
            assert.deepEqual(second._tag === "Left" ? second.left : second._tag, "handled", `step ${step}`)
          })
        )
      }
    })
  )

  it.live("H11 of a request leaves no connection open", () =>
    Effect.gen(function* () {
      const wrong: Array<string> = []
      for (let step = 0; step < 60; step++) {
        let isOpen = false
        const dispatch = (_: unknown, handler: Undici.Dispatcher.DispatchHandler): boolean => {
          isOpen = true
          const controller = {
            abort: (error: Error) => {
              isOpen = false
              handler.onResponseError?.(controller, error)
            }
          } as Undici.Dispatcher.DispatchController
          handler.onRequestStart?.(controller, undefined)
          setTimeout(() => {
            if (isOpen) handler.onResponseStart?.(controller, 500, {}, "")
          }, 1)
          return true
        }
        const ask = undiciTransport.make({ dispatch } as unknown as Undici.Dispatcher)
        const address = transport.address("http://example.com/")
        const fiber = Effect.runFork(ask({ address, headers: {}, secret: new Set(), maxBodyBytes: 10 }), {
          scheduler: interruptAt(step)
        })
        yield* Effect.sleep("5 millis")
        yield* Fiber.interrupt(fiber)
        if (isOpen) wrong.push(`step ${step}: the connection is left open`)
      }
      assert.deepEqual(wrong, [])
    })
  )
})
