/**
 * What all watchers do at the moment, on one line that never wraps.
 */
import * as Cause from "effect/Cause"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import type { Phase } from "../core/WatchStatus.js"
import type { Colour, Paint } from "./text.js"
import { clean, cut, plain, width } from "./text.js"
import { showCount, showMillis } from "./units.js"

/** What the command of a source does, with `--exec`. */
export type Command =
  | { readonly _tag: "Idle" }
  | { readonly _tag: "Running"; readonly since: number }
  | { readonly _tag: "Waiting"; readonly attempt: number; readonly until: number; readonly problem: string }

export interface Entry {
  readonly name: string
  readonly phase: Phase
  readonly command: Command
  /** How many objects a listing has brought that takes long. */
  readonly listed?: number | undefined
}

/** The sentence of an error. */
export const describe = (cause: Cause.Cause<unknown>): string => {
  const error = Cause.squash(cause)
  return Predicate.hasProperty(error, "message") ? String(error.message) : String(error)
}

type Mood = "live" | "working" | "retrying" | "guarded" | "failed" | "done"

interface Told {
  readonly mood: Mood
  readonly text: string
  /** What may be left out where there is no room. */
  readonly reason: string
  /** What is left where there is even less. */
  readonly short: string
  readonly nextAt: number | undefined
}

const marks: Readonly<Record<Mood, readonly [mark: string, colour: Colour]>> = {
  live: ["●", "green"],
  working: ["◌", "cyan"],
  retrying: ["▲", "yellow"],
  guarded: ["■", "yellow"],
  failed: ["✕", "red"],
  done: ["○", "dim"]
}

const inTime = (at: number, now: number): string => showMillis(Math.max(0, Math.ceil((at - now) / 1000) * 1000))

const next = (at: Option.Option<number>, now: number): string =>
  Option.match(at, {
    onNone: () => "",
    onSome: (at) => (at > now ? `, next poll in ${inTime(at, now)}` : ", polling")
  })

const tell = ({ command, listed, name, phase }: Entry, now: number): Told => {
  const told = (mood: Mood, text: string, reason = "", nextAt?: number): Told => ({
    mood,
    text: clean(`${name} ${text}`),
    reason: clean(reason),
    short: clean(nextAt === undefined || nextAt <= now ? name : `${name} ${inTime(nextAt, now)}`),
    nextAt
  })
  if (phase._tag !== "Stopped" && command._tag === "Waiting") {
    const { attempt, problem, until } = command
    return told("retrying", `command failed ${times(attempt)}, again in ${inTime(until, now)}`, problem, until)
  }
  if (phase._tag !== "Stopped" && command._tag === "Running" && now - command.since >= 1000) {
    return told("working", `runs the command (${showMillis(Math.floor((now - command.since) / 1000) * 1000)})`)
  }
  if (listed !== undefined && phase._tag !== "Backoff" && phase._tag !== "Stopped") {
    return told("working", `listing, ${showCount(listed)} so far`)
  }
  switch (phase._tag) {
    case "Starting":
      return told("working", "starting")
    case "Live":
      return told("live", `live${next(phase.nextPollAt, now)}`, "", Option.getOrUndefined(phase.nextPollAt))
    case "Backoff": {
      const message = describe(phase.error)
      const reason = message.startsWith(name) ? message.slice(name.length).replace(/^:? /, "") : message
      return phase.until > now
        ? told("retrying", `failed ${times(phase.attempt)}, again in ${inTime(phase.until, now)}`, reason, phase.until)
        : told("retrying", `failed ${times(phase.attempt)}, trying again`, reason)
    }
    case "Guarded":
      return told("guarded", `${held(phase.plan)}${next(phase.nextPollAt, now)}`)
    case "Stopped":
      return Option.isSome(phase.error) ? told("failed", "failed", describe(phase.error.value)) : told("done", "done")
  }
}

const held = ({ confirmListings, count, listings }: Extract<Phase, { readonly _tag: "Guarded" }>["plan"]): string =>
  `holds ${showCount(count)} removal${count === 1 ? "" : "s"} back (${listings} of ${confirmListings} listings)`

const times = (count: number): string => (count === 1 ? "once" : `${count} times`)

const separator = "   "

/** The line, at most so many columns wide. */
export const format = (entries: ReadonlyArray<Entry>, now: number, columns: number, paint: Paint): string => {
  const all = entries.map((entry) => tell(entry, now))
  const isWide = (text: string): boolean => width(text) > columns
  const whole = (withReason: boolean, paint: Paint): string =>
    all
      .map(({ mood, reason, text }) => {
        const [mark, colour] = marks[mood]
        return `${paint(colour, mark)} ${text}${withReason && reason !== "" ? paint("dim", `: ${reason}`) : ""}`
      })
      .join(separator)
  if (!isWide(whole(true, plain))) return whole(true, paint)
  if (all.length === 1) return colourMark(cut(whole(true, plain), columns), paint)
  if (!isWide(whole(false, plain))) return whole(false, paint)
  const brief = all.map(({ mood, short }) => `${marks[mood][0]} ${short}`).join(separator)
  if (!isWide(brief)) return colourMark(brief, paint)
  return colourMark(cut(counts(all, now), columns), paint)
}

/** How many of each, for many sources on a narrow terminal. */
const counts = (all: ReadonlyArray<Told>, now: number): string => {
  const parts = (Object.keys(marks) as ReadonlyArray<Mood>).flatMap((mood) => {
    const count = all.filter((told) => told.mood === mood).length
    return count === 0 ? [] : [`${marks[mood][0]} ${count} ${mood}`]
  })
  const nextAt = Math.min(...all.map(({ nextAt }) => nextAt ?? Infinity))
  const soonest = nextAt > now && nextAt < Infinity ? [`next poll in ${inTime(nextAt, now)}`] : []
  return [...parts, ...soonest].join(separator)
}

const colourMark = (text: string, paint: Paint): string =>
  Object.values(marks).reduce((painted, [mark, colour]) => painted.replaceAll(mark, () => paint(colour, mark)), text)
