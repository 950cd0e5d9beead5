// Replays responses with the stream helper: openai_golden.mjs BASE_URL ID…. Prints the final response of each.
import OpenAI from 'openai'

const [baseURL, ...ids] = process.argv.slice(2)
const client = new OpenAI({ baseURL, apiKey: 'none' })
for (const id of ids) {
  const stream = client.responses.stream({ response_id: id })
  const numbers = []
  for await (const event of stream) numbers.push(event.sequence_number)
  console.log(JSON.stringify({ numbers, response: await stream.finalResponse() }))
}
