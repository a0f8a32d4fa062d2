import { assert, describe, it } from "@effect/vitest"
import type { Fiber, Scheduler } from "effect"
import { Effect } from "effect"
import { WorkQueue } from "effect-periscope/control"

/** Runs fibers by hand, a few operations at a time: between any two of them something else can happen. */
class BySteps implements Scheduler.Scheduler {
  readonly tasks: Array<() => void> = []
  constructor(private readonly operations: number) {}

  shouldYield(fiber: Fiber.RuntimeFiber<unknown, unknown>): number | false {
    return fiber.currentOpCount > this.operations ? 0 : false
  }

  scheduleTask(task: () => void): void {
    this.tasks.push(task)
  }
}

type Work = (queue: WorkQueue.WorkQueue<number>, done: () => void) => Effect.Effect<unknown, unknown>

const ways: Readonly<Record<string, Work>> = {
  run: (queue, done) => queue.run(() => Effect.sync(done)),
  take: (queue, done) =>
    Effect.forever(Effect.flatMap(queue.take, (key) => Effect.zipRight(queue.done(key), Effect.sync(done))))
}

describe("WorkQueue between any two operations", () => {
  for (const [name, work] of Object.entries(ways)) {
    it(`${name} misses no key that comes while it goes to wait`, () => {
      // with less than that a fiber gets nowhere
      for (let operations = 11; operations < 24; operations++) {
        const scheduler = new BySteps(operations)
        const steps = { added: 0, done: 0 }
        let add = (): unknown => undefined
        const program = Effect.scoped(
          Effect.flatMap(WorkQueue.make<number>({ name: "steps" }), (made) => {
            steps.added++
            made.unsafeAdd(0)
            add = () => made.unsafeAdd(steps.added++)
            return work(made, () => void steps.done++)
          })
        )
        Effect.runFork(program, { scheduler })
        let since = 0
        for (let turns = 0; steps.done < 300; turns++) {
          assert.isBelow(turns, 100_000, "no progress")
          const task = scheduler.tasks.shift()
          // all are asleep: then there is nothing to do
          if (task === undefined) assert.strictEqual(steps.done, steps.added, `slept over key ${steps.done}`)
          task?.()
          if (steps.done === steps.added && (task === undefined || ++since > steps.added % 11)) {
            since = 0
            add()
          }
        }
      }
    })
  }
})
