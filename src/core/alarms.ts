/**
 * Wake-up calls: all watchers that live by the same clock share one sleeping fiber, which sleeps until the earliest call.
 *
 * A fiber of its own for every wait and every timeout would cost each idle watcher as much as all the rest of it.
 */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"

/** A wake-up call that can be taken back. */
export interface Alarm {
  /** In monotonic milliseconds. */
  readonly at: number
  readonly ring: () => void
  /** Its place in the heap; -1: rung or taken back. */
  place: number
}

// the longest time that a timer of the host can hold
const longestSleep = 2 ** 31 - 1

/** Milliseconds that only go forward: the time of day may be set back, and nobody is to wait for it to come again. */
const monotonicMillis = (clock: Clock.Clock): number => Number(clock.unsafeCurrentTimeNanos()) / 1_000_000

// below the resolution of timers, above that of the nanoseconds since 1970 in a floating point number
const tolerance = 0.5

class Alarms {
  /** A binary heap by time. */
  private readonly heap: Array<Alarm> = []
  private sleeper: Fiber.RuntimeFiber<void> | undefined
  private target = Infinity

  constructor(private readonly clock: Clock.Clock) {}

  set(at: number, ring: () => void): Alarm {
    const alarm: Alarm = { at, ring, place: this.heap.length }
    this.heap.push(alarm)
    this.up(alarm)
    if (at < this.target) this.sleep()
    return alarm
  }

  cancel(alarm: Alarm): void {
    this.remove(alarm)
    // nothing may keep the process alive when nobody waits; a call too early does no harm
    if (this.heap.length === 0) this.awake()
  }

  private awake(): void {
    const { sleeper } = this
    this.sleeper = undefined
    this.target = Infinity
    sleeper?.unsafeInterruptAsFork(FiberId.none)
  }

  private sleep(): void {
    this.awake()
    const first = this.heap[0]
    if (first === undefined) return
    const wait = Math.min(Math.max(0, first.at - monotonicMillis(this.clock)), longestSleep)
    this.target = first.at
    const sleeper = Effect.runFork(this.clock.sleep(Duration.millis(wait)))
    this.sleeper = sleeper
    sleeper.addObserver(() => {
      if (this.sleeper === sleeper) this.ring()
    })
  }

  private ring(): void {
    this.sleeper = undefined
    this.target = Infinity
    const now = monotonicMillis(this.clock) + tolerance
    for (let first = this.heap[0]; first !== undefined && first.at <= now; first = this.heap[0]) {
      this.remove(first)
      first.ring()
    }
    // a ring may have set a new one already
    if (this.heap.length > 0 && this.heap[0]!.at < this.target) this.sleep()
  }

  private remove(alarm: Alarm): void {
    const { place } = alarm
    if (place < 0) return
    alarm.place = -1
    const last = this.heap.pop()!
    if (last === alarm) return
    this.heap[place] = last
    last.place = place
    this.up(last)
    this.down(last)
  }

  private up(alarm: Alarm): void {
    while (alarm.place > 0) {
      const parent = this.heap[(alarm.place - 1) >> 1]!
      if (parent.at <= alarm.at) return
      this.swap(alarm, parent)
    }
  }

  private down(alarm: Alarm): void {
    for (;;) {
      const left = this.heap[2 * alarm.place + 1]
      const right = this.heap[2 * alarm.place + 2]
      const child = right !== undefined && right.at < left!.at ? right : left
      if (child === undefined || alarm.at <= child.at) return
      this.swap(alarm, child)
    }
  }

  private swap(a: Alarm, b: Alarm): void {
    const { place } = a
    a.place = b.place
    b.place = place
    this.heap[a.place] = a
    this.heap[b.place] = b
  }
}

const byClock = new WeakMap<Clock.Clock, Alarms>()

const of = (clock: Clock.Clock): Alarms => {
  const known = byClock.get(clock)
  if (known !== undefined) return known
  const made = new Alarms(clock)
  byClock.set(clock, made)
  return made
}

/** Rings once that many milliseconds have passed on that clock, never at once. */
export const set = (clock: Clock.Clock, millis: number, ring: () => void): Alarm =>
  of(clock).set(monotonicMillis(clock) + millis, ring)

/** Takes an alarm back; one that has rung is left alone. */
export const cancel = (clock: Clock.Clock, alarm: Alarm): void => of(clock).cancel(alarm)
