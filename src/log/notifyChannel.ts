/**
 * The channel on which writers of a log say in PostgreSQL that there is something new. A plain function of the table's name.
 */

/** PostgreSQL takes names of at most so many bytes. */
const maxBytes = 63

/** What is said in a channel when entries were appended; an empty text would not be heard by all drivers. */
export const appended = "appended"

/**
 * The channel of a table. Its schema does not matter: with or without it a table has the same channel, and to hear of a namesake in
 * another schema costs one look.
 */
export const channelOf = (table: string): string => {
  const bare = table.split(".").at(-1)!
  const channel = `periscope_${bare}`
  if (bytes(channel) <= maxBytes) return channel
  const end = `_${fingerprint(bare)}`
  let start = ""
  for (const character of channel) {
    if (bytes(start) + bytes(character) + end.length > maxBytes) break
    start += character
  }
  return start + end
}

const encoder = new TextEncoder()
const bytes = (text: string): number => encoder.encode(text).length

/** FNV-1a of 32 bits: the same in every process and version. */
const fingerprint = (text: string): string => {
  let hash = 0x811c9dc5
  for (const byte of encoder.encode(text)) hash = Math.imul(hash ^ byte, 0x01000193)
  return (hash >>> 0).toString(16).padStart(8, "0")
}
