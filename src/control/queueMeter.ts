/**
 * Measures a work queue.
 */
import type * as Metric from "effect/Metric"
import * as WatchMetrics from "../core/WatchMetrics.js"
import type { Meter, Running } from "./keyTable.js"

const noTags: ReadonlyArray<never> = []

const add = (metric: Metric.Metric.Gauge<number>, value: number): void => metric.unsafeModify(value, noTags)
const count = (metric: Metric.Metric.Counter<number>): void => metric.unsafeUpdate(1, noTags)

export class QueueMeter implements Meter {
  private readonly metrics: WatchMetrics.WorkQueueMetrics
  private readonly depths: ReadonlyArray<Metric.Metric.Gauge<number>>
  /** What this queue has put into gauges that queues of one name share. */
  private unfinished = 0
  private longest = 0

  constructor(name: string) {
    this.metrics = WatchMetrics.workQueue(name)
    const { live, resync, retry } = this.metrics.depth
    this.depths = [live, retry, resync]
  }

  added(priority: number): void {
    count(this.metrics.adds)
    add(this.depths[priority]!, 1)
  }

  raised(from: number, to: number): void {
    add(this.depths[from]!, -1)
    add(this.depths[to]!, 1)
  }

  taken(priority: number, waited: number): void {
    add(this.depths[priority]!, -1)
    this.metrics.queueDuration.unsafeUpdate(Math.max(0, waited) / 1000, noTags)
  }

  done(worked: number): void {
    this.metrics.workDuration.unsafeUpdate(Math.max(0, worked) / 1000, noTags)
  }

  dropped(priority: number, howMany: number): void {
    add(this.depths[priority]!, -howMany)
  }

  retried(): void {
    count(this.metrics.retries)
  }

  rejected(): void {
    count(this.metrics.rejected)
  }

  gaveUp(): void {
    count(this.metrics.deadLetters)
  }

  lostLetter(): void {
    count(this.metrics.deadLettersDropped)
  }

  sample({ longestMillis, totalMillis }: Running): void {
    add(this.metrics.unfinishedWork, (totalMillis - this.unfinished) / 1000)
    add(this.metrics.longestRunning, (longestMillis - this.longest) / 1000)
    this.unfinished = totalMillis
    this.longest = longestMillis
  }
}
