/**
 * Heap of one idle watch: two thousand of each kind, after their first poll, an hour before their next.
 */
import { Duration, Effect, Fiber } from "effect"
import { heap, table } from "./measure.js"
import { rivals, type Rival } from "./rivals.js"

const watches = 2000
const poll = Effect.succeed(1)

const perWatch = async (rival: Rival): Promise<number> => {
  const warm = Effect.runFork(rival(poll, Duration.hours(1)))
  await new Promise((resolve) => setTimeout(resolve, 50))
  const before = await heap()
  const fibers = Array.from({ length: watches }, () => Effect.runFork(rival(poll, Duration.hours(1))))
  await new Promise((resolve) => setTimeout(resolve, 300))
  const after = await heap()
  await Effect.runPromise(Fiber.interruptAll([warm, ...fibers]))
  return (after - before) / watches / 1024
}

export const idleMemory = async (): Promise<void> => {
  const rows = []
  for (const [name, rival] of Object.entries(rivals)) rows.push({ name, value: await perWatch(rival) })
  table(`Memory per idle watch: heap, ${watches} of each`, "KB", rows, "plain Stream, same features")
}
