/** What the simulations of the three kinds of source have in common. */
import { assert } from "@effect/vitest"
import { Cause, Effect, Exit, Option } from "effect"
import type { Simulator } from "effect-periscope/testing"

export const trials = 3000

/** Runs a simulation that must keep all promises; a broken one shows its trace. */
export const holds = async (
  what: string,
  simulation: Effect.Effect<Simulator.Report, Simulator.Violation>
): Promise<Simulator.Report> => {
  const start = performance.now()
  const cpu = process.cpuUsage()
  const report = await Effect.runPromise(simulation)
  const { crashes, delivered, points, polls, redelivered, trials } = report
  console.log(
    `${what}: ${trials} trials, ${crashes} crashes at ${points} points, ${polls} polls, ` +
      `${delivered} changes handed out, ${redelivered} of them again, in ${Math.round(performance.now() - start)} ms, ` +
      `${Math.round(process.cpuUsage(cpu).user / 1000)} ms of CPU`
  )
  return report
}

/** Runs a simulation that must find a broken promise. */
export const breaks = async (
  what: string,
  simulation: Effect.Effect<Simulator.Report, Simulator.Violation>
): Promise<Simulator.Violation> => {
  const exit = await Effect.runPromiseExit(simulation)
  const violation = Exit.isFailure(exit) ? Option.getOrUndefined(Cause.failureOption(exit.cause)) : undefined
  assert.isDefined(violation, `${what} was not found`)
  console.log(`${what}: found in trial ${violation.trial}: ${violation.rule}`)
  return violation
}

/** Every fault has to have struck, else the simulation has proved less than it says. */
export const fired = (report: Simulator.Report, kinds: ReadonlyArray<string>): void => {
  for (const kind of kinds) assert.isAbove(report.fired.get(kind) ?? 0, 0, `"${kind}" never struck`)
}

export const storeFaults = [
  "claim unavailable",
  "save unavailable",
  "save applied, answer lost",
  "save times out and lands later",
  "save lands after a crash",
  "save slow",
  "second owner",
  "handler fails"
]

export const crashes = [
  "poll",
  "answered",
  "polled",
  "claim",
  "claimed",
  "save",
  "saved",
  "hand-out",
  "handler",
  "in handler",
  "handled",
  "commit",
  "committed"
].map((label) => `crash: ${label}`)

export const remoteFaults = ["fail", "fatal", "defect", "hang", "slow", "truncated"]
