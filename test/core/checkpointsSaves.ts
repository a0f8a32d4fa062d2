/** A sequence of saves from whose every record can be told whether it is whole. */
import type { Save, Stored } from "../../src/core/Checkpoints.js"

/** Three blocks at a time: a small one in the head, and larger ones in files. */
const kept = 3

const block = (rev: number): Uint8Array => new Uint8Array(rev % 3 === 0 ? 100 : 5000 + ((rev * 997) % 20_000)).fill(rev)

const headOf = (rev: number): string => `${rev}:${"x".repeat((rev * 37) % 3000)}`

export const nextSave = (rev: number): Save => ({
  rev,
  head: headOf(rev),
  put: [[`b${rev}`, block(rev)]],
  drop: [`b${rev - kept}`]
})

export const isWhole = ({ rev, head, blocks }: Stored): boolean => {
  if (head !== headOf(rev) || blocks.size !== Math.min(rev, kept)) return false
  return Array.from({ length: blocks.size }, (_, n) => rev - n).every((written) => {
    const found = blocks.get(`b${written}`)
    return found !== undefined && Buffer.compare(found, block(written)) === 0
  })
}
