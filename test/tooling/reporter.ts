/** Vitest reporter that ends a run with `N passed, N failed` (and `, N skipped`) alone on the last line. */
import type { Reporter, TestModule } from "vitest/node"

interface Tally {
  readonly passed: number
  readonly failed: number
  readonly skipped: number
}

/** Counts tests by outcome; a file or suite that broke outside its tests, and an unhandled error, count as failed. */
export const tally = (modules: ReadonlyArray<TestModule>, unhandled: number): Tally => {
  const count = { passed: 0, failed: unhandled, skipped: 0 }
  for (const module of modules) {
    count.failed += module.errors().length
    for (const suite of module.children.allSuites()) count.failed += suite.errors().length
    for (const test of module.children.allTests()) {
      const state = test.result().state
      count[state === "pending" ? "failed" : state] += 1
    }
  }
  return count
}

export const summary = ({ failed, passed, skipped }: Tally): string =>
  `${passed} passed, ${failed} failed${skipped === 0 ? "" : `, ${skipped} skipped`}`

export default class SummaryReporter implements Reporter {
  private last: Tally = { passed: 0, failed: 0, skipped: 0 }

  onTestRunEnd(modules: ReadonlyArray<TestModule>, unhandledErrors: ReadonlyArray<unknown>): void {
    this.last = tally(modules, unhandledErrors.length)
    if (this.last.passed + this.last.failed === 0 || this.last.failed > 0) process.exitCode = 1
    // The default reporter writes its own end in the same event: leave the last line to us.
    process.once("exit", () => process.stdout.write(`${summary(this.last)}\n`))
  }
}
