"""What embeddings of a model are worth: how often a text's own counterpart is the nearest of all.

    ./dev bench embeddings [ARGUMENTS OF holdfast serve]

Starts the built daemon with each pooling, embeds PAIRS and prints, for each half that asks for the
other: top 1 (its own is the nearest of all), mean reciprocal rank, and the middle cosines of own
and of other counterparts. A paraphrase says the same; an answer shares less of the question's words.
"""

import json
import pathlib
import statistics
import sys
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "conformance"))
from daemon import Daemon  # noqa: E402

# Written for this file: a statement, its paraphrase, and a question that it answers.
PAIRS = [line.split(" | ") for line in """
The cat sleeps on the warm windowsill. | A kitten naps in the sun by the window. | Where does the cat like to rest?
The central bank raised interest rates by half a point. | Borrowing became dearer after the monetary authority's decision. | What did the central bank do to interest rates?
Water boils at a lower temperature on high mountains. | At great altitude it takes less heat to bring water to the boil. | Why does cooking take longer in the mountains?
The train to Vienna leaves at nine in the morning. | The Vienna service departs at 9 a.m. | When does the train to Vienna go?
She broke her arm while skiing in the Alps. | A fall on the slopes left her with a fractured arm. | How was her arm injured?
The new phone has a battery that lasts two days. | You need to charge this handset only every other day. | How long does the phone run on one charge?
Bees carry pollen from flower to flower. | Flowers are pollinated by visiting bees. | Which insects spread pollen?
The company dismissed a tenth of its employees. | One in ten workers at the firm lost their jobs. | How many people were laid off?
The museum is closed on Mondays. | You cannot visit the gallery on the first day of the week. | On which day can the museum not be visited?
Heavy rain flooded the streets of the old town. | The historic centre was under water after the downpour. | What caused the flooding in town?
The recipe needs three eggs and a cup of flour. | Take flour, one cup, and three eggs for this dish. | How many eggs go into the dough?
The court ruled that the contract was void. | Judges declared the agreement invalid. | What did the judges decide about the contract?
The Moon always shows the same face to Earth. | From our planet only one side of the Moon can be seen. | Why do we never see the far side of the Moon?
He plays the violin in the city's orchestra. | He is a violinist with the municipal symphony. | Which instrument does he play?
Vaccines teach the immune system to recognise a virus. | Immunisation prepares the body's defences for a pathogen. | How do vaccines protect people?
The bridge was built by the Romans two thousand years ago. | This ancient crossing dates from the days of Rome. | Who built the bridge?
The software crashes when the file is empty. | An empty input makes the program fail. | When does the program stop working?
Coffee keeps me awake at night. | If I drink espresso late I cannot sleep. | Why can't you fall asleep?
The team lost the final after extra time. | They were beaten in overtime in the last match of the cup. | How did the final end for the team?
Whales are mammals and breathe air. | Though they live in the sea, whales have lungs like us. | Do whales breathe water or air?
The price of oil fell to its lowest level in a year. | Crude has not been so cheap for twelve months. | What happened to the oil price?
My grandmother was born in a village near Naples. | My father's mother comes from a small place in southern Italy. | Where was your grandmother born?
The password must have at least twelve characters. | Choose a secret word that is no shorter than twelve letters. | How long does the password have to be?
Sunlight takes eight minutes to reach us. | Light from the Sun is eight minutes old when we see it. | How long does light travel from the Sun?
The doctor told him to stop smoking. | His physician advised him to give up cigarettes. | What was the doctor's advice?
The library lends books for four weeks. | You may keep borrowed volumes for a month. | How long can I keep a book from the library?
Electric cars have no gearbox. | Battery-driven vehicles do without a transmission. | What part does an electric car lack?
The glacier has lost half of its ice since 1950. | Seventy years of warming have halved the ice field. | How much has the glacier shrunk?
The author wrote the novel in six weeks. | It took the writer a month and a half to finish the book. | How quickly was the novel written?
Our flight was delayed by thick fog. | Poor visibility kept the plane on the ground for hours. | Why did the plane leave late?
The theatre is sold out for the whole season. | There are no tickets left for any performance this year. | Can I still get a ticket for the theatre?
Penguins cannot fly but swim very well. | These birds are flightless and at home in the water. | How do penguins move about?
The tax must be paid by the end of March. | The thirty-first of March is the deadline for the levy. | When is the tax due?
The dog barked at the postman all morning. | Every time mail was delivered the hound made noise. | Whom did the dog bark at?
Iron rusts when it is exposed to damp air. | Moist air makes iron corrode. | Why does iron rust?
The hotel offers breakfast until eleven. | Guests can have their morning meal up to 11 o'clock. | Until when is breakfast served?
She speaks four languages without an accent. | She is fluent in several tongues, like a native. | How many languages does she know?
The river marks the border between the two countries. | The frontier of both states follows the stream. | What separates the two countries?
The algorithm sorts a million numbers in a second. | Ordering 1,000,000 values takes this method one second. | How fast is the sorting method?
The garden needs water twice a day in summer. | During the hot months the plants must be watered morning and evening. | How often should the garden be watered?
""".strip().split("\n")]


def embed(url, texts):
    request = urllib.request.Request(f"{url}/v1/embeddings", json.dumps({"input": texts}).encode(),
                                     {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=600) as answer:
        return [item["embedding"] for item in json.load(answer)["data"]]


def ranks(asking, asked):
    """Of each its counterpart's place, then the cosines with it and with the others."""
    cosines = [[sum(x * y for x, y in zip(a, b)) for b in asked] for a in asking]
    places = [1 + sum(other > row[i] for other in row) for i, row in enumerate(cosines)]
    own = [row[i] for i, row in enumerate(cosines)]
    others = [cosine for i, row in enumerate(cosines) for j, cosine in enumerate(row) if j != i]
    return places, own, others


def main():
    print("| pooling | asks for | top 1 | MRR | cosine of own | of others |\n|---|---|---|---|---|---|")
    for pooling in ("mean", "last"):
        with Daemon(*sys.argv[1:], config=f"model: {{pooling: {pooling}}}") as daemon:
            says, paraphrase, question = (embed(daemon.url, list(part)) for part in zip(*PAIRS))
        for name, asking in (("paraphrase", paraphrase), ("question", question)):
            places, own, others = ranks(asking, says)
            print(f"| {pooling} | {name} to statement | {places.count(1)} of {len(places)} | "
                  f"{statistics.mean(1 / place for place in places):.2f} | "
                  f"{statistics.median(own):.3f} | {statistics.median(others):.3f} |")


if __name__ == "__main__":
    main()
