"""The words that generated session names are made of."""

ADJECTIVES = """
    able amber ample apt arctic autumn azure balmy bold brave breezy brief bright brisk calm
    candid casual cheery chief civil clean clear clever cosmic cozy crazy crisp curious
    dapper daring deep dusty eager early earnest easy epic exact fair fancy fast fine fluent
    fond frank free fresh frosty gentle giant glad golden grand great green happy hardy
    hasty honest humble icy ideal jolly keen kind lively loyal lucid lucky lunar mellow
    merry mighty misty modest neat nimble noble novel odd open patient plain polite proud
    quick quiet rapid rare ready regal rosy round royal rustic shiny silent silver simple
    sleek smart smooth snug solar solid spry stable steady sunny swift tidy vast vivid warm
    wild wise witty young zesty
""".split()

NOUNS = """
    acorn anchor apple apricot arrow aspen badger bamboo banjo basil beacon beetle birch
    bison breeze brook canyon cedar cello cherry cliff clover cobra comet coral cosmos crane
    creek dahlia daisy delta dolphin dove dragon eagle echo elm ember falcon fern fig finch
    fjord flute forest fox galaxy garnet gecko ginger glacier goose grape grove harbor hawk
    hazel heron hill horizon ibis iris island ivy jade jaguar jasmine kayak kestrel kiwi
    koala lagoon lake lark laurel lemon lemur lichen lily lotus lynx magnet mango maple
    marlin meadow melon meteor mint moose moss nectar nova oak oasis ocean olive onyx opal
    orbit orchid otter owl panda papaya peach pear pebble penguin pepper pine planet plum
    prairie puma quartz quince rabbit raven reef ridge river robin rocket rose saffron sage
    salmon sparrow spruce star stone summit swan thistle thyme tiger toucan tulip tundra
    valley violet walnut willow wolf wren yucca zebra zephyr
""".split()
