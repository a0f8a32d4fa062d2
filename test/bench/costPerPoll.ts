/**
 * Processor time of one poll: two hundred watches of a source that answers at once, polled every 20 ms for two seconds.
 */
import { Duration, Effect, Fiber } from "effect"
import { cpu, median, table } from "./measure.js"
import { rivals, type Rival } from "./rivals.js"

const watches = 200
const interval = Duration.millis(20)
const seconds = 2
const rounds = 3

const round = (rival: Rival) =>
  Effect.gen(function* () {
    let polls = 0
    const poll = Effect.sync(() => {
      polls++
      return 1
    })
    const fibers = yield* Effect.forEach(Array.from({ length: watches }), () => Effect.fork(rival(poll, interval)))
    yield* Effect.sleep("300 millis")
    polls = 0
    const before = process.cpuUsage()
    yield* Effect.sleep(Duration.seconds(seconds))
    const used = cpu(before)
    const counted = polls
    yield* Fiber.interruptAll(fibers)
    return used / counted
  })

export const costPerPoll = async (): Promise<void> => {
  const names = Object.keys(rivals)
  const measured = new Map<string, Array<number>>(names.map((name) => [name, []]))
  for (let index = 0; index < rounds; index++) {
    for (const name of names) {
      measured.get(name)!.push(await Effect.runPromise(round(rivals[name]!)))
    }
  }
  table(
    `Cost per poll: processor time, ${watches} watches every ${Duration.toMillis(interval)} ms, median of ${rounds} rounds`,
    "us",
    names.map((name) => ({ name, value: median(measured.get(name)!) })),
    "plain Stream, same features"
  )
}
