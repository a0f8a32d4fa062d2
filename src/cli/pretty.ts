/**
 * A change as a line that a person likes to read.
 */
import * as Option from "effect/Option"
import type { Found } from "./line.js"
import * as logValue from "./logValue.js"
import * as objectValue from "./objectValue.js"
import type { Row } from "../log/ChangeLog.js"
import type { TapItem } from "./tapValue.js"
import * as tapValue from "./tapValue.js"
import type { Colour, Paint } from "./text.js"
import { clean, cut, localTime, pad, width } from "./text.js"
import { showBytes } from "./units.js"
import type { Content, Value } from "./value.js"
import type { WsItem } from "./wsValue.js"
import * as wsValue from "./wsValue.js"
import { isEntry, isEvent, isFrame, isObject, jsonOf, kindOf, minified, sizeOf, textOf } from "./value.js"

export interface Look {
  readonly paint: Paint
  /** The width of the terminal; `Infinity`: lines are not cut. */
  readonly columns: number
  /** How wide the names of the sources and their keys are, as far as that is known. */
  readonly nameColumns: number
  readonly keyColumns: number
}

const symbols: Readonly<Record<Found["change"]["_tag"], readonly [string, Colour]>> = {
  Added: ["+", "green"],
  Modified: ["~", "yellow"],
  Removed: ["-", "red"]
}

/** The widest column of names or keys; longer ones stand out. */
const maxColumns = 40

/** The line: time, kind, source, key where it says more than the source, and what changed. */
export const format = (found: Found, { columns, keyColumns, nameColumns, paint }: Look): string => {
  const { change, observedAt, redelivered, source } = found
  const [symbol, colour] = symbols[change._tag]
  const time = localTime(observedAt)
  const name = pad(clean(source), Math.min(nameColumns, maxColumns))
  const summary = `${summaryOf(found)}${redelivered ? " (again)" : ""}`
  const room = columns - width(`${time} ${symbol} ${name}  `)
  const key = pad(shownKey(change.key, source), Math.min(keyColumns, maxColumns))
  // the key gives way first: what changed is what the line is for
  const keyRoom = Math.min(width(key), Math.max(0, room - width(summary) - 2))
  const keyPart = keyRoom === 0 ? "" : `${cut(key, keyRoom)}  `
  const rest = cut(summary, room - width(keyPart))
  return `${paint("dim", time)} ${paint(colour, symbol)} ${paint("bold", name)}  ${paint("dim", keyPart)}${rest}`.trimEnd()
}

/** A key as it is shown: of an address its path alone, as there may be secrets in the query; "" if it is the source. */
export const shownKey = (key: string, source: string): string => {
  if (!/^https?:/.test(key) || !URL.canParse(key)) return clean(key)
  const { origin, pathname } = new URL(key)
  return source === origin + pathname ? "" : clean(pathname)
}

const summaryOf = ({ change }: Found): string => {
  switch (change._tag) {
    case "Added":
      // what is told there is something else that changed
      if (isTelling(change.value)) return clean(describe(change.value))
      return clean(["appeared:", describe(change.value), excerpt(change.value)].filter((part) => part !== "").join(" "))
    case "Modified":
      return clean(
        Option.match(change.previous, {
          onNone: () => `changed: ${describe(change.value)}`,
          onSome: (previous) => compare(previous, change.value)
        })
      )
    case "Removed":
      return clean(
        Option.match(change.previous, { onNone: () => "gone", onSome: (previous) => `gone, was ${describe(previous)}` })
      )
  }
}

/** Whether it tells of something else that happened. */
const isTelling = (value: Value): value is Row | TapItem | WsItem => isEntry(value) || isEvent(value) || isFrame(value)

const describe = (value: Value): string => {
  if (isEntry(value)) return logValue.describe(value, minified)
  if (isEvent(value)) return tapValue.describe(value)
  if (isFrame(value)) return wsValue.describe(value)
  return isObject(value) ? objectValue.describe(value) : describeContent(value)
}

const describeContent = (value: Content): string =>
  [...kindOf(value), showBytes(sizeOf(value))].filter((part) => part !== "").join(" ")

const isShort = (text: string): boolean => text.length <= 60 && !/[\r\n]./.test(text)

const excerpt = (value: Value): string => {
  if (isObject(value) || isTelling(value)) return ""
  const text = sizeOf(value) > 200 ? undefined : textOf(value)?.trim()
  return text !== undefined && text !== "" && isShort(text) ? text : ""
}

const compare = (before: Value, after: Value): string => {
  if (isTelling(before) || isTelling(after)) return `changed: ${describe(after)}`
  if (isObject(before) || isObject(after)) {
    return isObject(before) && isObject(after) ? objectValue.compare(before, after) : `changed: ${describe(after)}`
  }
  const [old, now] = [jsonOf(before), jsonOf(after)]
  if (old !== undefined && now !== undefined) {
    const found = differences(old.value, now.value)
    if (found.length > 0) return found.join(", ")
  }
  const sizes = `${showBytes(sizeOf(before))} → ${showBytes(sizeOf(after))}`
  return old === undefined || now === undefined ? `${sizes}${lineThatChanged(before, after)}` : sizes
}

const lineThatChanged = (before: Content, after: Content): string => {
  if (Math.max(sizeOf(before), sizeOf(after)) > 64 * 1024) return ""
  const [old, now] = [textOf(before)?.split("\n"), textOf(after)?.split("\n")]
  if (old === undefined || now === undefined) return ""
  const at = now.findIndex((line, index) => line !== old[index])
  if (at < 0) return ""
  const place = now.length > 1 ? `, line ${at + 1}: ` : ", "
  return `${place}${JSON.stringify(cut(old[at] ?? "", 40))} → ${JSON.stringify(cut(now[at] ?? "", 40))}`
}

const maxDifferences = 5

/** Where two JSON values differ: `replicas: 2 → 3`, `+flag: true`, `-old`. */
export const differences = (before: unknown, after: unknown): ReadonlyArray<string> => {
  const found: Array<string> = []
  let more = 0
  const add = (text: string): void => {
    if (found.length < maxDifferences) found.push(text)
    else more++
  }
  walk(before, after, "", add, 0)
  return more === 0 ? found : [...found, `and ${more} more`]
}

const walk = (before: unknown, after: unknown, path: string, add: (text: string) => void, depth: number): void => {
  if (Object.is(before, after)) return
  const [old, now] = [fields(before), fields(after)]
  if (old === undefined || now === undefined || Array.isArray(before) !== Array.isArray(after) || depth > 32) {
    if (JSON.stringify(before) === JSON.stringify(after)) return
    return add(`${path === "" ? "" : `${path}: `}${brief(before)} → ${brief(after)}`)
  }
  for (const [name, value] of now) {
    const inner = path === "" ? name : `${path}.${name}`
    if (old.has(name)) walk(old.get(name), value, inner, add, depth + 1)
    else add(`+${inner}: ${brief(value)}`)
  }
  for (const name of old.keys()) if (!now.has(name)) add(`-${path === "" ? name : `${path}.${name}`}`)
}

const fields = (value: unknown): ReadonlyMap<string, unknown> | undefined =>
  typeof value === "object" && value !== null ? new Map(Object.entries(value)) : undefined

const brief = (value: unknown): string => {
  if (Array.isArray(value) && value.length > 3) return `[${value.length} items]`
  return cut(JSON.stringify(value) ?? "nothing", 30)
}
