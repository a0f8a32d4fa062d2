/**
 * What a frame of a WebSocket holds, for scripts and for people.
 */
import * as Either from "effect/Either"
import type { Frame } from "../socket/Connector.js"
import { cut } from "./text.js"
import { showBytes } from "./units.js"

/** A frame, as it was received. */
export interface WsItem {
  readonly frame: Frame
}

/** More of a frame is not shown on a line. */
const maxShown = 200

const isJson = (text: string): boolean => Either.isRight(Either.try(() => JSON.parse(text) as unknown))

/** The fields of its line; `minified` keeps the digits of numbers. */
export const fields = (
  { frame }: WsItem,
  minified: (json: string) => string
): ReadonlyArray<readonly [name: string, json: string]> => {
  if (typeof frame !== "string") return [["bodyBase64", JSON.stringify(Buffer.from(frame).toString("base64"))]]
  return [isJson(frame) ? ["json", minified(frame)] : ["body", JSON.stringify(frame)]]
}

/** Its text, on one line; of bytes how many there are. */
export const describe = ({ frame }: WsItem): string =>
  typeof frame === "string" ? cut(frame.trim(), maxShown) : showBytes(frame.length)
