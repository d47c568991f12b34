"""DIP-4D: one 3D volume for every image of an electron-tomography tilt series."""
