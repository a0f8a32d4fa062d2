/**
 * What an entry of a log holds, for scripts and for people.
 */
import * as Either from "effect/Either"
import type { Row } from "../log/ChangeLog.js"
import { cut } from "./text.js"

const isJson = (text: string): boolean => Either.isRight(Either.try(() => void JSON.parse(text)))

/** A number as long as JavaScript can hold it, else text: most readers of JSON would cut it. */
export const seqJson = (seq: bigint): string =>
  Number.isSafeInteger(Number(seq)) ? String(seq) : JSON.stringify(String(seq))

/** Milliseconds as ISO-8601; tables may hold any number, and not all of them are a date. */
export const timeJson = (millis: number | undefined): string | undefined =>
  millis === undefined || !(Math.abs(millis) <= 8.64e15) ? undefined : JSON.stringify(new Date(millis).toISOString())

const textJson = (text: string): string | undefined => (text === "" ? undefined : JSON.stringify(text))

/** The fields of its JSON, as far as its table has them. `minified`: writes JSON on one line, with its numbers as they are. */
export const fields = (
  { atMillis, cursor, data, entity, kind }: Row,
  minified: (json: string) => string
): ReadonlyArray<readonly [name: string, json: string | undefined]> => [
  ["seq", seqJson(cursor.seq)],
  ["entity", textJson(entity)],
  ["kind", textJson(kind)],
  ["at", timeJson(atMillis)],
  ["data", data === undefined ? undefined : isJson(data) ? minified(data) : JSON.stringify(data)]
]

/** More of the data is not shown on a line. */
const maxShown = 200

/** What happened, on one line. */
export const describe = ({ data = "", entity, kind }: Row, minified: (json: string) => string): string => {
  const shown = data.length <= 64 * 1024 && isJson(data) ? minified(data) : data.slice(0, 4 * maxShown)
  return [entity, kind, cut(shown, maxShown)].filter((part) => part !== "").join(" ")
}
