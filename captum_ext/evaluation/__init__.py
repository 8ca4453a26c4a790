"""Measure attribution methods on a folder of pictures: what ``captum-ext evaluate`` computes, stores and shows."""
