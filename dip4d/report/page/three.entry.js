export {
  BoxGeometry, Data3DTexture, EdgesGeometry, GLSL3, LinearFilter, LineBasicMaterial, LineSegments, Matrix3, Matrix4,
  Mesh, NearestFilter, OrthographicCamera, RedFormat, Scene, ShaderMaterial, Vector3, WebGLRenderer,
} from "three";
export { OrbitControls } from "three/addons/controls/OrbitControls.js";
