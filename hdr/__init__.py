"""Multi-exposure HDR reconstruction without ghosts, with HDR-GAN."""
